"""What is said, and what is not printed, when a storage does not deliver."""

import logging
from types import SimpleNamespace

import pytest

from lynx_pipeline.adapters.dvc import translated
from lynx_pipeline.adapters.dvc_delivery import missing_bucket
from lynx_pipeline.errors import SystemFailed


@pytest.mark.parametrize("name", ["gcsfs", "gcsfs.retry", "azure.core.pipeline", "asyncssh"])
def test_what_the_libraries_log_is_not_printed(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Google's library logs a traceback of 40 lines for a server that is not there."""
    with pytest.raises(SystemFailed) as caught, translated("It failed"):
        try:
            raise OSError("no host")
        except OSError:
            logging.getLogger(name).exception("out of retries")
            raise
    assert "out of retries" not in str(caught.value)
    assert "no host" in str(caught.value)
    assert capfd.readouterr() == ("", "")


def _refuses(_: str) -> bool:
    raise PermissionError


@pytest.mark.parametrize(
    ("protocol", "exists", "expected"),
    [
        ("s3", lambda bucket: bucket != "team", "the bucket 'team' does not exist"),
        ("gs", lambda bucket: bucket != "team", "the bucket 'team' does not exist"),
        ("azure", lambda bucket: bucket != "team", "the container 'team' does not exist"),
        ("s3", lambda bucket: bucket == "team", ""),
        ("s3", _refuses, ""),
        ("http", lambda _: False, ""),
    ],
)
def test_a_missing_bucket_is_named(protocol: str, exists: object, expected: str) -> None:
    """A key that may not ask says nothing about it, and a web server has none."""
    remote = SimpleNamespace(fs=SimpleNamespace(protocol=protocol, exists=exists), path="team/x")
    assert missing_bucket(remote) == expected
