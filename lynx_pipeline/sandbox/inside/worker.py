"""The program that runs a candidate: it loads the bundle and answers batches of prompts.

It runs in its own process and sees only the bundle and the prompts: this file must import only the
standard library and MLflow. The model shares the process and can fake its output, so whoever reads
it trusts none of it. The model can also read this text, which is an argument of its process.

Arguments: the bundle's folder and, if any differ from the defaults, the keyword arguments of
:func:`load` as a JSON object.

The protocol is one JSON object per line. In: ``{"ids": [...], "prompts": [...]}``. Out: first
``{"ready": seconds}``, then for each batch ``{"ids": [...], "predictions": [...], "seconds": s,
"peak_mib": m}``, or ``{"error": "..."}`` and the process ends. What the model prints goes to
standard error.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any


def main() -> None:
    bundle, form = sys.argv[1], json.loads(sys.argv[2] if sys.argv[2:] else "{}")
    # The model sees neither pipe as its standard input or output, just as in a server.
    batches = os.fdopen(os.dup(0), encoding="utf-8")
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        output.write(json.dumps(message) + "\n")
        output.flush()

    try:
        started = time.perf_counter()
        predict = load(bundle, **form)
        send({"ready": time.perf_counter() - started})
        for line in batches:
            batch = json.loads(line)
            started = time.perf_counter()
            predictions = predict(batch["prompts"])
            seconds = time.perf_counter() - started
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            answer = {"ids": batch["ids"], "predictions": predictions}
            send({**answer, "seconds": seconds, "peak_mib": peak})
        # A regular exit spends a third of a second on unloading libraries.
        os._exit(0)
    except BaseException as error:
        send({"error": f"{type(error).__name__}: {error}"})
        raise


def load(bundle: str, answer_column: str | None = None) -> Callable[[list[str]], list[Any]]:
    """A function from a list of prompts to a list of answers, each text or None. See :func:`plain`
    for ``answer_column``.

    The input form is decided once, before the first prompt. The first rule that applies:

    1. sklearn, unless it was fitted on named columns: a list of texts, whatever its signature.
    2. A signature of tensors: a numpy array of text, of shape (batch,) or (batch, 1).
    3. Any other signature: a data frame with the one column that it requires.
    4. No signature: a data frame whose column is ``prompt``, or for sklearn the fitted column.

    MLflow turns the data frame into a list if the model's type hint says so.

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
            f"a model for {task} takes messages or similar input; expected one that takes text and "
            "returns text. Log a pyfunc that wraps it"
        )
    required = required_input(info.get_input_schema())
    model = pyfunc.load_model(bundle)

    def answers(ask: Callable[[Any], Any], form: Callable[[list[str]], Any]) -> Any:
        return lambda prompts: plain(ask(form(prompts)), answer_column)

    if loader == "mlflow.sklearn":
        estimator = model.get_raw_model()
        fitted = getattr(estimator, "feature_names_in_", None)
        if fitted is None:
            # Bypass MLflow, which would turn the list into a data frame if there is a signature.
            return answers(getattr(estimator, flavor.get("predict_fn", "predict")), list)
        if required is None and len(fitted) == 1:
            return answers(model.predict, lambda prompts: pandas.DataFrame({fitted[0]: prompts}))

    if hasattr(required, "shape"):
        shape = tuple(required.shape)
        kind = object if required.type.kind == "O" else str
        return answers(model.predict, lambda prompts: numpy.array(prompts, kind).reshape(shape))

    column = "prompt" if required is None else 0 if required.name is None else required.name
    return answers(model.predict, lambda prompts: pandas.DataFrame({column: prompts}))


def required_input(schema: Any) -> Any:
    """The only required input of an MLflow schema, which takes text; None without a schema.

    Raises:
        ValueError: it requires several inputs, or one that is not text.
    """
    if schema is None:
        return None
    inputs = list(schema.inputs)
    required = [each for each in inputs if each.required] or inputs
    if len(required) != 1:
        raise ValueError(f"the model needs {len(required)} inputs ({schema}); it is given one text")
    [only] = required
    if hasattr(only, "shape"):
        takes_text = only.type.kind in "OU" and tuple(only.shape) in ((-1,), (-1, 1))
    else:
        takes_text = str(only.type).rpartition(".")[2].lower() in ("string", "any")
    if not takes_text:
        raise ValueError(f"the model needs {only!r}; it is given one text")
    return only


def plain(output: Any, answer_column: str | None = None) -> list[Any]:
    """A model's output as a list of answers, each text or None.

    It may be a list, a tuple, an array of shape (batch,) or (batch, 1), a pandas Series or index;
    or columns: a data frame, a mapping with one of these for each name, or a list with a mapping
    for each answer. If there are several columns, ``answer_column`` names the one with the answers.

    Raises:
        ValueError: it is anything else, or an answer is.
    """
    values = enumerate(_values(_only_column(output, answer_column)), 1)
    return [it if it is None or type(it) is str else _text(it, number) for number, it in values]


def _only_column(output: Any, answer_column: str | None) -> Any:
    """The column with the answers; output without columns as it is."""
    if hasattr(output, "columns"):
        return output.iloc[:, _position(list(output.columns), answer_column)]
    if isinstance(output, Mapping):
        return list(output.values())[_position(list(output), answer_column)]
    if isinstance(output, list | tuple):
        rows = [row for row in output if row is not None]
        if rows and all(isinstance(row, Mapping) for row in rows):
            names = list(dict.fromkeys(name for row in rows for name in row))
            name = names[_position(names, answer_column)]
            if any(name not in row for row in rows):
                raise ValueError(f"the model returned an answer without the field {name!r}")
            return [None if row is None else row[name] for row in output]
    return output


def _position(names: list[Any], answer_column: str | None) -> int:
    """The position of the column with the answers."""
    found = [k for k, name in enumerate(names) if answer_column in (None, str(name))]
    if len(found) == 1:
        return found[0]
    columns = f"{len(names)} columns ({', '.join(map(repr, names))[:200]})"
    if answer_column is None:
        raise ValueError(
            f"the model returned {columns}, expected one. Name the one with the answers: "
            "answer_column in [tool.lynx_pipeline.evaluation]"
        )
    raise ValueError(
        f"the model returned {columns}, expected one named {answer_column!r}, as answer_column in "
        "[tool.lynx_pipeline.evaluation] says"
    )


def _values(output: Any) -> list[Any]:
    """The values in a container. Its floats keep their precision."""
    if hasattr(output, "isna"):
        # pandas would turn whole numbers into floats if one is missing.
        output = (output.astype(object) if output.dtype.kind in "iub" else output).to_numpy()
    elif hasattr(output, "__array__"):
        import numpy

        output = numpy.asarray(output)
    if hasattr(output, "tolist"):
        if output.ndim != 1 and (output.ndim, *output.shape[1:]) != (2, 1):
            raise ValueError(f"the model returned an array of shape {output.shape}")
        output = output.reshape(-1)
        # Faster, but it would turn dates into numbers and all floats into doubles.
        return output.tolist() if output.dtype.kind in "OUiub" else list(output)
    if isinstance(output, list | tuple):
        return list(output)
    raise ValueError(f"the model returned {_type(output)} for a batch, expected a list")


def _text(value: Any, number: int) -> str | None:
    """The answer ``value``. Numbers and booleans become text as JSON writes them: ``3``, ``0.1``,
    ``1e-05``, ``true``. A float gets the fewest digits that read back equal in its own type, and a
    decimal number those that it has. None, NaN and pandas' missing values are null answers.

    Raises:
        ValueError: it is of another type. It is answer ``number`` of a batch.
    """
    import numpy
    import pandas

    if isinstance(value, str):
        return str(value)
    if isinstance(value, numpy.float16 | numpy.float32):
        value = float(numpy.format_float_scientific(value))
    elif isinstance(value, numpy.generic) and value.dtype.kind in "biuf":
        value = value.item()
    if isinstance(value, Decimal):
        return None if value.is_nan() else str(value)
    if isinstance(value, bool | int | float):
        return None if value != value else json.dumps(value)
    if pandas.isna(value) is True:
        return None
    raise ValueError(
        f"the model returned {_type(value)}, expected text or a number, first as answer {number} "
        "of a batch"
    )


def _type(value: Any) -> str:
    return type(value).__name__


if __name__ == "__main__":
    main()
