"""The program that runs a candidate: loads the bundle, answers batches of prompts.

It runs in a process of its own, under isolation where there is any, and sees a bundle and
prompts, nothing else of ours: this file must import only the standard library and MLflow.
What it says is a stranger's word, since the model shares its process; the other side checks.

One JSON object a line. In: ``{"ids": [...], "prompts": [...]}``. Out: first ``{"ready":
seconds}``, then for each batch ``{"ids": [...], "predictions": [...], "seconds": s,
"peak_mib": m}``, or ``{"error": "..."}`` and the end. What the model prints goes to standard
error.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any


def main() -> None:
    bundle = sys.argv[1]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        started = time.perf_counter()
        predict = load(bundle)
        say({"ready": time.perf_counter() - started})
        for line in sys.stdin:
            batch = json.loads(line)
            started = time.perf_counter()
            predictions = predict(batch["prompts"])
            seconds = time.perf_counter() - started
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            answer = {"ids": batch["ids"], "predictions": predictions}
            say({**answer, "seconds": seconds, "peak_mib": peak})
        # Taking all the libraries down takes a third of a second, and is nobody's gain.
        os._exit(0)
    except BaseException as error:
        say({"error": f"{type(error).__name__}: {error}"})
        raise


def load(bundle: str) -> Callable[[list[str]], list[Any]]:
    """A function from a list of prompts to a list of answers, each text or None.

    In which form a model is asked is settled here, before it is asked anything, and holds for
    all batches. The first of these that applies:

    1. sklearn, unless it was fitted on named columns: a list of texts, whatever its signature.
    2. A signature of tensors: a numpy array of text, as long as the batch, or batch by one.
    3. Any other signature: a data frame with the one column that it requires.
    4. No signature: a data frame whose column is ``prompt``, or for sklearn the fitted column.

    MLflow makes a list of the data frame where the model's type hint says so.

    Raises:
        ValueError: the model doesn't take one text.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import numpy
    import pandas
    from mlflow import pyfunc
    from mlflow.models import Model

    info = Model.load(bundle)
    flavor = info.flavors.get("python_function", {})
    loader = str(flavor.get("loader_module"))
    task = str((info.metadata or {}).get("task"))
    if task.startswith(("agent/", "llm/")):
        raise ValueError(
            f"a model for {task} takes messages or the like; expected one that takes a text and "
            "answers a text. Log a pyfunc that wraps it"
        )
    wanted = required_input(info.get_input_schema())
    model = pyfunc.load_model(bundle)

    if loader == "mlflow.sklearn":
        estimator = model.get_raw_model()
        fitted = getattr(estimator, "feature_names_in_", None)
        if fitted is None:
            # Past MLflow, which would make a data frame of the list if there is a signature.
            ask = getattr(estimator, flavor.get("predict_fn", "predict"))
            return lambda prompts: plain(ask(prompts))
        if wanted is None and len(fitted) == 1:
            return lambda prompts: plain(model.predict(pandas.DataFrame({fitted[0]: prompts})))

    if hasattr(wanted, "shape"):
        shape = tuple(wanted.shape)
        kind = object if wanted.type.kind == "O" else str
        return lambda prompts: plain(model.predict(numpy.array(prompts, kind).reshape(shape)))

    column = "prompt" if wanted is None else 0 if wanted.name is None else wanted.name
    return lambda prompts: plain(model.predict(pandas.DataFrame({column: prompts})))


def required_input(schema: Any) -> Any:
    """The one text that an MLflow schema wants; None without a schema.

    Raises:
        ValueError: it wants something else, or more.
    """
    if schema is None:
        return None
    inputs = list(schema.inputs)
    required = [wanted for wanted in inputs if wanted.required] or inputs
    if len(required) != 1:
        raise ValueError(f"the model wants {len(required)} inputs ({schema}); one text is given")
    wanted = required[0]
    if hasattr(wanted, "shape"):
        fits = wanted.type.kind in "OU" and tuple(wanted.shape) in ((-1,), (-1, 1))
    else:
        fits = str(wanted.type).rpartition(".")[2].lower() in ("string", "any")
    if not fits:
        raise ValueError(f"the model wants {wanted!r}; a text is given")
    return wanted


def plain(output: Any) -> list[Any]:
    """A model's output as a list of answers, each text or None.

    It may be a list, a tuple, a numpy array (as long as the batch, or batch by one), a pandas
    Series or index, a data frame of one column, or a mapping of one name to one of these. None
    is a null answer, and in pandas also what it marks as missing; NaN anywhere else is a number.

    Raises:
        ValueError: it is anything else.
    """
    if isinstance(output, dict):
        if len(output) != 1:
            raise ValueError(f"the model answers {len(output)} outputs, expected one")
        (output,) = output.values()
    if hasattr(output, "columns"):
        if len(output.columns) != 1:
            raise ValueError(f"the model answers {len(output.columns)} columns, expected one")
        output = output.iloc[:, 0]
    if hasattr(output, "isna") and output.dtype.kind in "OTU":
        output = output.astype(object).where(~output.isna(), None)
    if hasattr(output, "tolist"):
        if output.ndim != 1 and (output.ndim, *output.shape[1:]) != (2, 1):
            raise ValueError(f"the model answers an array of shape {output.shape}")
        values = output.reshape(-1).tolist() if output.ndim == 2 else output.tolist()
    elif isinstance(output, list | tuple):
        values = list(output)
    else:
        raise ValueError(f"the model answers {_type(output)} to a batch, expected a list")
    for place, value in enumerate(values, 1):
        if value is not None and not isinstance(value, str):
            raise ValueError(
                f"the model answers {_type(value)}, expected text or None, first as answer "
                f"{place} of a batch"
            )
    return [None if value is None else str(value) for value in values]


def _type(value: Any) -> str:
    return type(value).__name__


if __name__ == "__main__":
    main()
