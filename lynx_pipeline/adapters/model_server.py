"""A running model server, asked for answers over HTTP.

The end of the URL's path decides the form of requests and responses:

- ``/predict``, as miniserve: ``{"prompts": [...]}``, or ``{"inputs": [{...}, ...]}`` for items with
  several inputs; ``{"version": "v0.3.1", "answers": [...]}``
- ``/invocations``, as MLflow's scoring server: ``{"inputs": [...]}``, or a data frame;
  ``{"predictions": [...]}``. The response does not name a version.

What the server returns is not trusted: redirects are not followed, a response has a limited size
and time, and anything but one answer per prompt is an error. Whether the answers are the expected
ones is decided elsewhere.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lynx_pipeline.domain.text import printable
from lynx_pipeline.errors import BadInput, SystemFailed

if TYPE_CHECKING:
    import requests

PREDICT, INVOCATIONS = "/predict", "/invocations"
Answer = str | int | float | None  # a JSON value that can be an answer; a bool is an int
_CONSTANTS = {"NaN": None, "Infinity": float("inf"), "-Infinity": float("-inf")}
_MAX_BYTES = 16 << 20  # of a response


@dataclass(frozen=True, slots=True)
class Served:
    """A server's answers to a batch, each text, a number or None, and the version that gave them;
    None if the response does not name one."""

    answers: list[Answer]
    version: str | None


class ModelServer:
    """The server at ``url``.

    ``column`` asks MLflow's server with a data frame instead of a list. ``seconds`` limits the time
    for one request. ``token`` is sent as a bearer token; no message contains it.
    """

    def __init__(
        self,
        url: str,
        *,
        column: str | None = None,
        seconds: float = 30.0,
        token: str | None = None,
    ) -> None:
        """Check the arguments. This sends no request.

        Raises:
            BadInput: the URL or the token is invalid.
        """
        self.name = printable(url.partition("?")[0])  # a query may contain a secret
        self.is_mlflow = _path(url, self.name).endswith(INVOCATIONS)
        if column is not None and not self.is_mlflow:
            raise BadInput(f"{self.name}: a column can be chosen only for a URL on {INVOCATIONS}.")
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise BadInput("the bearer token is empty or contains characters that can't be sent.")
        self._url, self._column, self._seconds = url, column, seconds
        self._session = _session()
        self._session.headers["Accept-Encoding"] = "identity"
        if token is not None:
            self._session.auth = _Bearer(token)

    def ask(
        self, prompts: list[str], inputs: Sequence[str] = (), answer_column: str | None = None
    ) -> Served:
        """The answers to these prompts, in their order. With ``inputs``, each is the text of a JSON
        object that has them. If the model returns several columns, ``answer_column`` names the one
        with the answers.

        Raises:
            BadInput: a column was chosen, and the items have several inputs.
            SystemFailed: the server can't be reached, or its response is not one answer per prompt.
        """
        items = [json.loads(prompt) for prompt in prompts] if inputs else []
        if items and self._column is not None:
            raise BadInput(
                f"--column is given, but the eval set's items have the inputs "
                f"{', '.join(inputs)}, which are sent as the columns. Remove --column."
            )
        if not self.is_mlflow:
            values = self._post({"inputs": items} if items else {"prompts": prompts})
            version = values.get("version")
            if not isinstance(version, str):
                raise self._failed("the response names no version")
            return Served(self._answers(values.get("answers"), len(prompts)), version)
        if items:
            rows = [[item[name] for name in inputs] for item in items]
            values = self._post({"dataframe_split": {"columns": list(inputs), "data": rows}})
        elif self._column is None:
            values = self._post({"inputs": prompts})
        else:
            frame = {"columns": [self._column], "data": [[prompt] for prompt in prompts]}
            values = self._post({"dataframe_split": frame})
        answers = _one_column(values.get("predictions"), answer_column)
        return Served(self._answers(answers, len(prompts)), None)

    def _answers(self, values: Any, count: int) -> list[Answer]:
        if not isinstance(values, list):
            raise self._failed("the response contains no list of answers")
        if len(values) != count:
            raise self._failed(f"the response has {len(values)} answers to {count} prompts")
        for value in values:
            if not isinstance(value, Answer) or (isinstance(value, str) and not _is_unicode(value)):
                found = printable(repr(value))[:60]
                raise self._failed(f"an answer is {found}, not text, a number or null")
        return values

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON object that the server returns."""
        import requests
        from urllib3.exceptions import HTTPError

        end = time.monotonic() + self._seconds
        try:
            with self._session.post(
                self._url, json=body, timeout=self._seconds, allow_redirects=False, stream=True
            ) as response:
                raw = self._read(response, end)
        except requests.Timeout:
            raise self._too_slow() from None
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise self._failed(type(error).__name__) from None
        text = printable(" ".join(raw[:300].decode("utf-8", "replace").split()))
        if 300 <= response.status_code < 400:
            to = printable(response.headers.get("Location", "an unknown place"))[:200]
            raise self._failed(f"it redirects to {to}, and redirects are not followed")
        if response.status_code != 200:
            raise self._failed(f"status {response.status_code}: {text or 'no reason given'}")
        try:
            # pandas writes a missing answer as NaN.
            values = json.loads(raw, parse_constant=_CONSTANTS.__getitem__)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise self._failed(f"the response is not a JSON object: {text[:80]!r}")
        return values

    def _read(self, response: "requests.Response", end: float) -> bytes:
        """The response's body. The library's own time-out starts again with every byte."""
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        raw = b""
        try:
            while part := response.raw.read1(1 << 16, decode_content=True):
                raw += part
                if len(raw) > _MAX_BYTES:
                    raise self._failed(f"the response is longer than {_MAX_BYTES >> 20} MiB")
                if time.monotonic() > end:
                    raise self._too_slow()
        except ReadTimeoutError:
            raise self._too_slow() from None
        except HTTPError as error:
            raise self._failed(f"the response ended early: {type(error).__name__}") from None
        return raw

    def _too_slow(self) -> SystemFailed:
        return self._failed(f"there was no complete response within {self._seconds:g} seconds")

    def _failed(self, why: str) -> SystemFailed:
        advice = "Check that the server is running and that this is its address"
        if self.is_mlflow and self._column is None:
            advice += "; a model without a signature needs --column, see docs/serving.md"
        return SystemFailed(f"the request to {self.name} failed: {why}. {advice}.")


def _session() -> "requests.Session":
    """A session that never looks at redirects: the library would read their bodies without limit,
    even if it is not to follow them."""
    import requests

    class Session(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> None:
            """None for any response."""

    return Session()


class _Bearer:
    """Authentication with a token, also where a .netrc file has a password for the server."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: "requests.PreparedRequest") -> "requests.PreparedRequest":
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def _path(url: str, name: str) -> str:
    """The path of a valid URL.

    Raises:
        BadInput: it can't.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        has_password = "@" in parts.netloc
    except ValueError:
        usable = has_password = False
    if has_password:
        raise BadInput("the URL contains a user name or password. Use a bearer token instead.")
    if not usable or not url.isprintable() or not parts.path.endswith((PREDICT, INVOCATIONS)):
        raise BadInput(
            f"{name}: expected an http or https URL whose path ends in {PREDICT} (miniserve's form "
            f"of requests) or {INVOCATIONS} (MLflow's)."
        )
    return parts.path


def _one_column(values: Any, answer_column: str | None) -> Any:
    """The answers of a model that returns columns, or an array of shape (batch, 1), as the worker
    that evaluates models reads them. Other values as they are."""
    values = _chosen(values, answer_column)
    if not isinstance(values, list):
        return values
    rows = [_chosen(row, answer_column) for row in values]
    return [row[0] if isinstance(row, list) and len(row) == 1 else row for row in rows]


def _chosen(values: Any, answer_column: str | None) -> Any:
    """The field of an object with the answers. A Series is an object with one field."""
    if not isinstance(values, dict):
        return values
    if answer_column is not None and answer_column in values:
        return values[answer_column]
    return next(iter(values.values())) if len(values) == 1 else values


def _is_unicode(text: str) -> bool:
    """Whether it has no lone surrogates, which can't be printed."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
