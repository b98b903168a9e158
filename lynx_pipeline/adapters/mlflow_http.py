"""GET requests to an MLflow tracking server, with the settings of MLflow's client and without it.

* Credentials come from the tracking URI, ``MLFLOW_TRACKING_USERNAME`` and ``_PASSWORD``,
  ``MLFLOW_TRACKING_TOKEN`` or ``~/.mlflow/credentials``. They are sent to this server only:
  redirects are not followed.
* TLS, proxies, time-outs and retries follow the variables of MLflow's client and of requests.

What the requests are for is up to :mod:`lynx_pipeline.adapters.mlflow_server`.
"""

import base64
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from lynx_pipeline.domain.text import printable, without_secrets
from lynx_pipeline.errors import BadInput, NotFound, SystemFailed

if TYPE_CHECKING:
    import ssl
    import urllib.request
    from http.client import HTTPResponse

T = TypeVar("T")

_VARIABLE = "MLFLOW_TRACKING_"
_RETRIES, _TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
_TRANSIENT = (408, 429, 500, 502, 503, 504)
_LONGEST_JSON = 32 << 20  # bytes
_PAUSE = 0.5  # seconds before the first retry; doubled for each further one


def can_connect(tracking_uri: str) -> bool:
    """Whether this module can: it is a server, and no plug-in of MLflow's client signs requests."""
    plugin = os.environ.get(f"{_VARIABLE}AUTH") or _is_true(f"{_VARIABLE}AWS_SIGV4")
    return urlsplit(tracking_uri).scheme in ("http", "https") and not plugin


class Server:
    """A tracking server.

    Raises:
        BadInput: the tracking URI or a variable is invalid.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.name = without_secrets(tracking_uri)
        parts = _split(tracking_uri, self.name)
        self.base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self.headers = _headers(parts)
        self.retries = _number(_RETRIES, 3)
        self.timeout = max(_number(_TIMEOUT, 30), 1)
        self.opener = _opener(self.base)

    def get(
        self,
        path: str,
        receive: Callable[["HTTPResponse"], T],
        query: Mapping[str, str] | None = None,
    ) -> T:
        """The result of ``receive`` for the response to ``GET api/2.0/<path>``. It is called again
        if the connection fails. It may not raise a ValueError of its own.

        Raises:
            NotFound: the server does not have it.
            SystemFailed: the server can't be reached, or returns another status than 200.
        """
        import urllib.request
        from http.client import HTTPException
        from urllib.error import HTTPError

        try:
            url = f"{self.base}/api/2.0/{quote(path)}" + (f"?{urlencode(query)}" if query else "")
            request = urllib.request.Request(url, headers=self.headers)  # noqa: S310  # http(s)
        except ValueError as error:
            raise self.malformed("", f"the address is invalid: {error}") from None
        problem = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(_PAUSE * 2 ** min(attempt - 1, 5))
            try:
                with self.opener.open(request, timeout=self.timeout) as response:
                    return receive(response)
            except HTTPError as error:
                with error:
                    problem = self._explained(path, error)
                if error.code not in _TRANSIENT:
                    break
            # ValueError: the server's name or a redirect's address is not one.
            except (OSError, HTTPException, ValueError) as error:
                problem = " ".join(str(error).split())[:300] or type(error).__name__
        raise SystemFailed(
            f"MLflow at {self.name} failed: GET {path:.200}: {problem.rstrip('.')}. Check the "
            "server and MLFLOW_TRACKING_URI, then run this again."
        )

    def get_json(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The JSON object that the server answers with. Raises like :meth:`get`, and SystemFailed
        for anything else than such an object."""
        raw, kind = self.get(path, _read, query)
        problem = f"more than {_LONGEST_JSON >> 20} MiB"
        if len(raw) <= _LONGEST_JSON:
            try:
                value = json.loads(raw)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict):
                return value
            problem = kind
        raise self.malformed(path, f"expected a JSON object, got {problem}")

    def malformed(self, path: str, problem: str) -> SystemFailed:
        """The error for a malformed response."""
        return SystemFailed(
            f"MLflow at {self.name}: GET {path:.200}: {printable(problem)}. Check the server and "
            "MLFLOW_TRACKING_URI; a proxy or a login page may answer in its place."
        )

    def _explained(self, path: str, error: Any) -> str:
        """An answer other than 200 in words."""
        from http.client import HTTPException

        code, text = error.code, ""
        try:
            answer = json.loads(error.read(1 << 16))
            text = printable(" ".join(str(answer.get("message", "")).split()))[:300]
            missing = answer.get("error_code") == "RESOURCE_DOES_NOT_EXIST"
        except (OSError, HTTPException, ValueError, RecursionError, AttributeError):
            missing = False
        if missing:
            raise NotFound(
                f"not found in MLflow at {self.name}: {text.rstrip('.') or path}. It may have been "
                "deleted. Check MLFLOW_TRACKING_URI."
            )
        if 300 <= code < 400:
            text = "redirects are not followed, because they could send credentials elsewhere"
        elif code in (401, 403):
            text = (
                f"access denied; set {_VARIABLE}USERNAME and {_VARIABLE}PASSWORD, or "
                f"{_VARIABLE}TOKEN"
            )
        return f"status {code}" + (f", {text}" if text else "")


def _read(response: "HTTPResponse") -> tuple[bytes, str]:
    kind = printable(response.headers.get("Content-Type") or "no content type")[:80]
    return response.read(_LONGEST_JSON + 1), kind


def _split(tracking_uri: str, name: str) -> SplitResult:
    try:
        parts = urlsplit(tracking_uri)
        parts.port  # noqa: B018  # raises for a port that is not a number
    except ValueError:
        parts = urlsplit("")
    if not parts.hostname:
        raise BadInput(f"MLFLOW_TRACKING_URI is {name!r}: expected the URL of a server.")
    return parts


def _headers(parts: SplitResult) -> dict[str, str]:
    """The headers of each request."""
    headers = {"Accept": "*/*", "User-Agent": "lynx-pipeline"}
    if workspace := os.environ.get("MLFLOW_WORKSPACE", "").strip():
        headers["X-MLFLOW-WORKSPACE"] = workspace
    user, password = _login(parts)
    if user and password:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    elif token := os.environ.get(f"{_VARIABLE}TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    for text in headers.values():
        if not (text.isascii() and text.isprintable()):  # http.client would show the value
            raise BadInput(
                f"MLFLOW_WORKSPACE or {_VARIABLE}TOKEN contains characters that can't be sent in a "
                "header. Correct it."
            )
    return headers


def _login(parts: SplitResult) -> tuple[str | None, str | None]:
    """User and password, in the order in which MLflow's client looks for them."""
    import configparser

    if parts.username is not None:
        return unquote(parts.username), unquote(parts.password or "")
    names = (f"{_VARIABLE}USERNAME", f"{_VARIABLE}PASSWORD")
    file = Path("~/.mlflow/credentials").expanduser()
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(file.read_text())
    except FileNotFoundError:
        pass
    except (OSError, ValueError, configparser.Error, RuntimeError):
        raise BadInput(f"{file} can't be read: expected an INI file, as MLflow does.") from None
    user, password = (
        os.environ.get(name) or parser.get("mlflow", name, fallback=None) for name in names
    )
    return user, password


def _opener(url: str) -> "urllib.request.OpenerDirector":
    """Opens URLs through the proxies of the environment, and follows no redirect."""
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            """Redirects are not followed."""

    handlers: list[urllib.request.BaseHandler] = [NoRedirect()]
    if url.startswith("https:"):
        handlers.append(urllib.request.HTTPSHandler(context=_tls()))
    return urllib.request.build_opener(*handlers)


def _tls() -> "ssl.SSLContext":
    """The trusted authorities and our own certificate."""
    import ssl

    insecure = _is_true(f"{_VARIABLE}INSECURE_TLS")
    names = (f"{_VARIABLE}SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    variable = next((name for name in names if os.environ.get(name)), names[0])
    trusted = os.environ.get(variable)
    if insecure and variable == names[0] and trusted:
        raise BadInput(f"{_VARIABLE}INSECURE_TLS and {variable} exclude each other. Unset one.")
    try:
        is_folder = bool(trusted) and Path(trusted or "").is_dir()
        context = ssl.create_default_context(
            cafile=None if is_folder else trusted or None, capath=trusted if is_folder else None
        )
        variable = f"{_VARIABLE}CLIENT_CERT_PATH"
        if own := os.environ.get(variable):
            context.load_cert_chain(own)
    except OSError as error:
        raise BadInput(
            f"the certificate that {variable} names can't be used: {error.strerror or error}."
        ) from None
    if insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _is_true(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("true", "1")


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise BadInput(f"{variable} is {text!r:.40}: expected a whole number, 0 or more.")
    return int(text)
