"""The program that runs a candidate: it loads the bundle and answers batches of prompts.

It runs in its own process and sees only the bundle and the prompts: this file must import only the
standard library and MLflow, and the text of ``causes`` takes the place of the line that imports it.
The model shares the process and can fake its output, so whoever reads it trusts none of it. The
model can also read this text, which is an argument of its process.

Arguments: the bundle's folder and, if they are not the defaults, ``inputs`` and ``answer_column``
in a JSON object. See :func:`load`.

The protocol is one JSON object per line. In: ``{"ids": [...], "prompts": [...]}``; if the items
have several inputs, each prompt is the JSON text of an object. Out: first
``{"ready": seconds}``, then for each batch ``{"ids": [...], "predictions": [...], "seconds": s,
"peak_mib": m}``, or ``{"error": "...", "hint": {...}}`` and the process ends. What the model prints
goes to standard error.
"""

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

from .causes import hint, watch_variables


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

    predict, missing = None, watch_variables()
    try:
        started = time.perf_counter()
        predict = load(bundle, form.get("inputs", ()), form.get("answer_column"))
        send({"ready": time.perf_counter() - started})
        for line in batches:
            batch = json.loads(line)
            started = time.perf_counter()
            prompts = batch["prompts"]
            items = [json.loads(it) for it in prompts] if form.get("inputs") else prompts
            predictions = predict(items)
            seconds = time.perf_counter() - started
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            answer = {"ids": batch["ids"], "predictions": predictions}
            send({**answer, "seconds": seconds, "peak_mib": peak})
        # A regular exit spends a third of a second on unloading libraries.
        os._exit(0)
    except BaseException as error:
        warn_of_requirements(bundle)
        message: dict[str, Any] = {"error": f"{type(error).__name__}: {error}"}
        with suppress(Exception):  # it looks at the model's objects
            message["hint"] = hint(error, [] if predict is None else predict.columns, missing)
        send(message)
        raise


def load(
    bundle: str, inputs: Sequence[str] | None = None, answer_column: str | None = None
) -> "LoadedModel":
    """Load a model. If it doesn't take items with these ``inputs`` (none: prompts), that is an
    error before it is loaded; with None, every call decides. See :func:`plain` for
    ``answer_column``.

    Raises:
        ValueError: the model doesn't take such items.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    gc.disable()  # it would take a fifth of the import's time, and find nothing
    from mlflow import pyfunc
    from mlflow.models import Model

    gc.enable()
    info = Model.load(bundle)
    task = str((info.metadata or {}).get("task"))
    if task.startswith(("agent/", "llm/")):
        raise ValueError(
            f"a model for {task} takes messages or similar input; expected one that takes text and "
            "returns text. Log a pyfunc that wraps it"
        )
    schema = info.get_input_schema()
    if inputs is not None:
        used_inputs(schema, inputs)
    flavor = info.flavors.get("python_function", {})
    # Without MLflow's warnings, for which it reads the metadata of every installed package.
    model = pyfunc.load_model(bundle, suppress_warnings=True)
    return LoadedModel(model, schema, flavor, answer_column)


def warn_of_requirements(bundle: str) -> None:
    """Print MLflow's warning about packages that are not those of the model, which may explain its
    error."""
    with suppress(Exception):  # other versions of MLflow have these functions elsewhere
        from mlflow import pyfunc
        from mlflow.utils import requirements_utils

        required = pyfunc._get_pip_requirements_from_model_path(bundle)
        requirements_utils.warn_dependency_requirement_mismatches(required)


class LoadedModel:
    """A function from a list of items to a list of answers, each text or None. An item is a prompt
    or, if items have several inputs, a dictionary of texts.

    The first rule that applies decides what the model gets:

    1. sklearn, unless it was fitted on named columns: a list of texts, whatever its signature.
    2. A signature of tensors: a numpy array of text, of shape (batch,) or (batch, 1); for items
       with inputs, a dictionary of these.
    3. Any other signature: a data frame with the one column that it requires; for items with
       inputs, with those that it names. If it takes dictionaries: the items.
    4. No signature: a data frame whose columns are those that sklearn was fitted on, or the items'
       inputs, or ``prompt``.

    MLflow turns the data frame into a list if the model's type hint says so.
    """

    def __init__(self, model: Any, schema: Any, flavor: Any, answer_column: str | None) -> None:
        self.schema, self.answer_column = schema, answer_column
        self.predict = model.predict
        self.takes_list, self.fitted = False, list[str]()
        self.columns = list[Any]()  # of the data frame that it got last
        if flavor.get("loader_module") == "mlflow.sklearn":
            estimator = model.get_raw_model()
            self.fitted = list(getattr(estimator, "feature_names_in_", ()))
            if not self.fitted:
                # Bypass MLflow, which would turn the list into a data frame if there is a
                # signature.
                self.takes_list = True
                self.predict = getattr(estimator, flavor.get("predict_fn", "predict"))

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        """The answers to these items, which are all prompts or all have the same inputs.

        Raises:
            ValueError: the model doesn't take such items, or returned something else than answers.
        """
        inputs = list(items[0]) if isinstance(items[0], Mapping) else []
        return plain(self.predict(self._form(items, inputs)), self.answer_column)

    def _form(self, items: Sequence[Any], inputs: list[str]) -> Any:
        """The items in the form that the model takes."""
        import numpy
        import pandas

        used = used_inputs(self.schema, inputs)
        if self.takes_list:
            if inputs:
                raise ValueError(_several("the model takes one text", inputs))
            return list(items)
        if used is None:
            self.columns = self.fitted or inputs or ["prompt"]
            if inputs and not set(self.columns) <= set(inputs):
                needed = _names(self.columns)
                raise ValueError(_several(f"the model needs the inputs {needed}", inputs))
            if not inputs and len(self.columns) > 1:
                self.columns = ["prompt"]
        elif hasattr(used[0], "shape"):
            tensors = {
                each.name: numpy.array(
                    [item[each.name] for item in items] if inputs else items,
                    object if each.type.kind == "O" else str,
                ).reshape(tuple(each.shape))
                for each in used
            }
            return tensors if inputs else next(iter(tensors.values()))
        elif inputs and used[0].name is None:
            return list(items)
        else:
            self.columns = [0 if each.name is None else each.name for each in used]
        rows = {it: [item[it] for item in items] if inputs else items for it in self.columns}
        return pandas.DataFrame(rows)


def used_inputs(schema: Any, inputs: Sequence[str]) -> list[Any] | None:
    """The inputs of an MLflow schema that an item fills; None without a schema. Without ``inputs``
    that is the only required one.

    Raises:
        ValueError: it requires others, or one that is not text.
    """
    if schema is None:
        return None
    specs = list(schema.inputs)
    if inputs and len(specs) == 1 and specs[0].name is None and _takes_objects(specs[0], inputs):
        return specs
    required = [each for each in specs if each.required]
    if inputs:
        used = [each for each in specs if each.name in inputs]
        if not used or any(each not in used for each in required):
            named = [each.name for each in required or specs if each.name]
            needed = f"needs the inputs {_names(named)}" if named else "names no inputs"
            raise ValueError(_several(f"the model's signature {needed}", inputs))
    else:
        used = required or specs
        if len(used) != 1:
            raise ValueError(
                f"the model needs {len(used)} inputs ({schema}); it is given one text. If all are "
                "texts, give the eval set's items 'inputs' with these names in place of 'prompt'"
            )
    for each in used:
        if not _takes_text(each):
            raise ValueError(f"the model needs {each!r}; it is given text")
    return used


def _takes_text(spec: Any) -> bool:
    if hasattr(spec, "shape"):
        return spec.type.kind in "OU" and tuple(spec.shape) in ((-1,), (-1, 1))
    return _is_text(spec.type)


def _takes_objects(spec: Any, inputs: Sequence[str]) -> bool:
    """Whether it takes dictionaries of texts with these keys, as a type hint says."""
    kind: Any = spec.type
    if hasattr(kind, "properties"):
        given = [it for it in kind.properties if it.name in inputs]
        return all(_is_text(it.dtype) for it in given) and all(
            it in given or not it.required for it in kind.properties
        )
    return _is_text(getattr(kind, "value_type", kind)) and str(kind) != "DataType.string"


def _is_text(kind: Any) -> bool:
    return str(kind).rpartition(".")[2].lower() in ("string", "any")


def _several(problem: str, inputs: Sequence[str]) -> str:
    return f"{problem}; the eval set's items have the inputs {_names(inputs)}"


def _names(names: Sequence[Any]) -> str:
    return ", ".join(map(repr, names))


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
            f"the model returned {columns}, expected one. Name the one with the answers in the "
            "evaluation's table of pyproject.toml: answer_column = 'NAME'"
        )
    raise ValueError(
        f"the model returned {columns}, expected one named {answer_column!r}, as answer_column in "
        "the evaluation's settings says"
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
