"""What to do about an error that a model raises only because it is evaluated.

The worker recognizes the kind of error and sends it with a name. Both come from a process that the
model shares, so they are checked here, and the text is ours.
"""

from typing import Any

_LONGEST_NAME, _SHOWN = 80, 10


def hint_text(found: Any) -> str:
    """The advice for a worker's ``hint``; empty if there is none, or it has another form."""
    match found:
        case {"kind": "network"}:
            return (
                "In the sandbox a model has no network, on purpose: it could look up or leak the "
                "questions. Log the files that it needs together with the model; a model that only "
                "calls an API can't be evaluated."
            )
        case {"kind": "variable", "name": str(name)}:
            return (
                "In the sandbox a model has none of your environment variables, on purpose. "
                "Unless the value is a secret, log it with the model: mlflow.pyfunc.log_model(..., "
                f"model_config={{'{_name(name)}': 'value'}}), and read context.model_config."
            )
        case {"kind": "column", "name": str(name), "columns": [*columns]} if columns:
            shown = ", ".join(repr(str(each)[:_LONGEST_NAME]) for each in columns[:_SHOWN])
            return (
                f"The model was given a data frame with the column{'s' * (len(columns) > 1)} "
                f"{shown}. "
                + (
                    "To get another one, log it"
                    if columns == ["prompt"]
                    else "If the eval set's items have 'inputs', name one of them as the model "
                    "needs it. Otherwise log it"
                )
                + " with a signature: mlflow.pyfunc.log_model(..., "
                "signature=mlflow.models.infer_signature("
                f"pandas.DataFrame({{'{_name(name)}': ['a text']}})))."
            )
    return ""


def _name(text: str) -> str:
    """The name of a variable or a column, if it can be shown in code."""
    return text if text.isidentifier() and len(text) <= _LONGEST_NAME else "NAME"
