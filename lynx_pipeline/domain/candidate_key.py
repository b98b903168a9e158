"""The key of a candidate: which model of which MLflow run it is.

A key has one of three forms:

- ``RUN_ID``: the only model of that run.
- ``MODEL_ID``: a logged model of MLflow 3, ``m-`` and 32 hex digits.
- ``RUN_ID:PATH``: the model at ``PATH`` among the run's artifacts, ``.`` for their root. Letters
  outside ASCII and reserved ones are percent-encoded.

An alias or a version of a registered model is not a key, because it may name another model later.
If the model behind a key is replaced in MLflow, its bundle digest differs. A key is safe as a
Dagster partition, in a shell and in JSON. :attr:`CandidateKey.folder` is safe as a file name.
"""

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from lynx_pipeline.errors import BadInput

# MLflow's own rule; a UUID with dashes and AzureML's names keep it too.
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,255}")
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
_LONGEST = 2000  # PostgreSQL can't index much longer ones
_LONGEST_FOLDER = 64


@dataclass(frozen=True, slots=True)
class CandidateKey:
    """A run's only model, a logged model, or the model at ``path`` among the run's artifacts.

    ``run_id`` is None for a logged model: MLflow knows its run.
    """

    run_id: str | None
    model_id: str | None = None
    path: str | None = None

    def __str__(self) -> str:
        if self.path is None:
            return self.run_id or self.model_id or ""
        # Dagster allows no three dots in a row.
        return f"{self.run_id}:{quote(self.path, safe='/').replace('...', '..%2E')}"

    @property
    def folder(self) -> str:
        """A file name that no other key has."""
        text = str(self)
        if self.path is None and len(text) <= _LONGEST_FOLDER:
            return text
        return f"{text[:32].partition(':')[0]}.{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def is_run_id(text: str) -> bool:
    """Whether MLflow would accept ``text`` as the id of a run."""
    return bool(_RUN_ID.fullmatch(text)) and not is_model_id(text)


def is_model_id(text: str) -> bool:
    """Whether ``text`` has the form of a logged model's id."""
    return bool(_MODEL_ID.fullmatch(text))


def parse_key(text: str) -> CandidateKey:
    """The key that ``text`` spells, in exactly the one spelling that it has.

    Raises:
        BadInput: it is not a key.
    """
    run_id, colon, path = text.partition(":")
    if is_model_id(text):
        return CandidateKey(None, model_id=text)
    key = CandidateKey(run_id, path=unquote(path) if colon else None)
    valid = text.isascii() and len(text) <= _LONGEST and is_run_id(run_id) and _is_inside(key.path)
    if not valid or str(key) != text:
        raise BadInput(
            f"{text!r:.200} is not a candidate: expected an MLflow run id, the id of a logged "
            f"model (m-…), or RUN_ID:PATH for a model among the run's artifacts.{_instead(text)}"
        )
    return key


def _instead(text: str) -> str:
    """For a URI ``runs:/RUN_ID/PATH``, a sentence with the key that it means; else empty."""
    run_id, slash, path = text.removeprefix("runs:/").partition("/")
    if (
        not text.startswith("runs:/")
        or not is_run_id(run_id)
        or not (_is_inside(path) or not slash)
    ):
        return ""
    return f" Write it as {CandidateKey(run_id, path=path or None)}"


def _is_inside(path: str | None) -> bool:
    """Whether ``path`` can't leave the run's artifacts and has no second spelling."""
    if path in (None, "."):
        return True
    parts = path.split("/")
    return path.isprintable() and not {"", ".", ".."} & {*parts}
