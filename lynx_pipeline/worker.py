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
    except BaseException as error:
        say({"error": f"{type(error).__name__}: {error}"})
        raise


def load(bundle: str) -> Callable[[list[str]], list[Any]]:
    """A function from a list of prompts to a list of answers (text, None, or a mistake)."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import pandas
    from mlflow import pyfunc

    model = pyfunc.load_model(bundle)
    schema = model.metadata.get_input_schema()
    names = schema.input_names() if schema is not None else []
    if len(names) > 1:
        raise ValueError(f"the model wants {len(names)} inputs ({names}); one text is given")
    column = names[0] if names and isinstance(names[0], str) else "prompt"

    def predict(prompts: list[str]) -> list[Any]:
        return plain(model.predict(pandas.DataFrame({column: prompts})))

    return predict


def plain(output: Any) -> list[Any]:
    """A model's output as a list: a list, array, Series or one-column frame of answers."""
    if hasattr(output, "columns"):
        if len(output.columns) != 1:
            raise ValueError(f"the model answers {len(output.columns)} columns, expected one")
        output = output.iloc[:, 0]
    if hasattr(output, "isna") and output.dtype.kind in "OTU":
        output = output.astype(object).where(~output.isna(), None)
    values = output.tolist() if hasattr(output, "tolist") else list(output)
    for value in values:
        if value is not None and not isinstance(value, str):
            raise ValueError(f"the model answers {type(value).__name__}, expected text or None")
    return list(values)


if __name__ == "__main__":
    main()
