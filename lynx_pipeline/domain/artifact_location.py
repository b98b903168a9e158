"""Where MLflow keeps artifacts: one form for every way to write the same place.

MLflow takes a path on this machine, bare or as ``file:`` URI, or a URI of a store: ``s3://``,
``gs://``, ``wasbs://CONTAINER@ACCOUNT/…``, ``hdfs://``, ``dbfs:/`` and many more. Names of buckets
and hosts are compared exactly, and a place is inside another one only at a segment's border.

Refused is what MLflow can't fetch, or what would be another place in each process: relative paths,
also as ``file:mlruns``; ``//HOST/SHARE``, which MLflow reads as a folder of this machine, or not at
all, depending on Python's version; a drive of Windows; ``runs:`` and ``models:``, which are no
places; and a store without its bucket or host.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_LOCAL = "file"
# In these schemes a user name may be a token. Elsewhere it is a container or an account.
_WEB = ("http", "https")
# These need no host: the workspace's, the cluster's and the server's own are meant.
_WITHOUT_HOST = ("dbfs", "hdfs", "viewfs", "mlflow-artifacts")
# These need a bucket, a container or a host. (Plugins of MLflow add further schemes.)
_WITH_HOST = (
    *("s3", "gs", "r2", "oss", "wasb", "wasbs", "abfs", "abfss"),
    *("ftp", "sftp", "http", "https"),
)
_REFERENCES = ("runs", "models")
# What MLflow adds to the root: the experiment, unless it has its own location, and the run or the
# logged model.
_BELOW_ROOT = re.compile(r"(.+?)(?:/\d+)?/(?:[0-9a-f]{32}|models/m-[0-9a-f]{32})(?:/.*)?")


class InvalidLocation(ValueError):
    """The text is not a location that can be compared. The message says why, and never shows it."""


class SecretInLocation(InvalidLocation):
    """The location contains a password, a token or a query."""


@dataclass(frozen=True, slots=True)
class ArtifactLocation:
    """A place of artifacts. ``host`` may include a user, as in ``container@account``."""

    scheme: str
    host: str
    path: str

    def contains(self, other: "ArtifactLocation") -> bool:
        """Whether ``other`` is this place or below it."""
        if (self.scheme, self.host) != (other.scheme, other.host):
            return False
        return not self.path or f"{other.path}/".startswith(f"{self.path}/")


def parse_location(text: str) -> ArtifactLocation:
    """The location that ``text`` names.

    Raises:
        InvalidLocation: it is relative, contains ``.`` or ``..`` or characters that can't be
            printed, is not a URI, or names no place that MLflow can fetch from.
        SecretInLocation: it contains a password, a token or a query.
    """
    if not text.isprintable() or "#" in text:
        raise InvalidLocation("it contains '#' or characters that can't be printed")
    if text.startswith("/"):
        scheme, host, path, query = _LOCAL, "", *text.partition("?")[::2]
    else:
        try:
            parts = urlsplit(text)
            secret = parts.password is not None or (parts.username and parts.scheme in _WEB)
        except ValueError:
            raise InvalidLocation("it is not a valid URI") from None
        if not parts.scheme:
            raise InvalidLocation("it is a relative path")
        scheme, host, path, query = parts.scheme, parts.netloc, parts.path, parts.query
        if secret:
            raise SecretInLocation("it contains a password")
    if query:
        raise SecretInLocation("it contains a query")
    if scheme == _LOCAL:
        if host not in ("", "localhost"):
            raise InvalidLocation("a file: URI can't name another host")
        # MLflow decodes bare paths too. It does not know the scheme in capitals.
        host, path = "", unquote(path)
        if path and not (path.startswith("/") and text.startswith(("/", "file:"))):
            raise InvalidLocation("it is a relative path")
        if re.match("//[^/]", path):
            raise InvalidLocation(
                "it starts with '//', as the name of a share does; mount the share, and write the "
                "folder where it is mounted"
            )
        path = re.sub("/+", "/", path)
    else:
        _check_store(scheme, host, path)
    if {".", ".."} & {*unquote(path).split("/")}:
        raise InvalidLocation("it contains '.' or '..'")
    return ArtifactLocation(scheme, host, path.removeprefix("/").rstrip("/"))


def _check_store(scheme: str, host: str, path: str) -> None:
    if len(scheme) == 1:
        raise InvalidLocation("it is a path of Windows")
    if scheme in _REFERENCES:
        raise InvalidLocation("it names a model, and not where its files are")
    if scheme in _WITH_HOST and path and not host:
        raise InvalidLocation("it has no bucket or host after '//'")
    if path and not path.startswith("/"):
        raise InvalidLocation("it is a relative path")


def is_too_wide(location: ArtifactLocation) -> bool:
    """Whether it names no place in particular: all of this machine, or a store without a bucket."""
    one_place = location.path or location.host or location.scheme in _WITHOUT_HOST
    return not one_place


def artifact_root(text: str) -> str:
    """The artifact root that the location of a run's or logged model's files was probably made
    from; the location itself if it has another form."""
    found = _BELOW_ROOT.fullmatch(text)
    try:
        return text if found is None or is_too_wide(parse_location(found[1])) else found[1]
    except InvalidLocation:
        return text
