"""DVC's configuration, written for as long as a command runs."""

import base64
import stat
from pathlib import Path

import pytest
from dvc.config import Config

from lynx_pipeline.adapters.dvc import local_config
from lynx_pipeline.errors import BadInput

CONFIG = "[core]\nremote = team\n['remote \"team\"']\n    url = s3://bucket/data\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The ``config.local`` of a DVC repository, which does not exist yet."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(CONFIG)
    return tmp_path / ".dvc/config.local"


def test_it_is_there_only_while_the_block_runs(file: Path) -> None:
    """Only its owner can read it."""
    text = "['remote \"team\"']\n    secret_access_key = hunter2\n"
    with local_config(file.parents[1] / "x", text):
        assert file.read_text() == text
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not file.exists()


def test_without_a_text_nothing_is_written(file: Path) -> None:
    """The variable is not set."""
    with local_config(file.parents[1] / "x", ""):
        assert not file.exists()


def test_a_text_with_windows_line_endings_is_used(file: Path) -> None:
    """Secrets are pasted into web forms."""
    with local_config(file.parents[1] / "x", "['remote \"team\"']\r\n    jobs = 2\r\n"):
        assert Config(str(file.parent))["remote"]["team"]["jobs"] == 2


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("hunter2", id="no configuration"),
        pytest.param("password = hunter2", id="outside a section"),
        pytest.param("['remote \"typo\"']\npassword = hunter2\n", id="unknown remote"),
        pytest.param("['remote \"team\"']\nhunter2 = x\n", id="unknown option"),
        pytest.param("[remote]\npassword = hunter2\n", id="remote without a name"),
        pytest.param("['remote \"team\"']\nurl = hunter2, x\n", id="a list"),
        pytest.param("['remote \"team\"']\npassword = %(hunter2)s\n", id="interpolation"),
        pytest.param("password = '''hunter2\n", id="open quotation"),
        pytest.param("hunter2\udcff", id="not UTF-8"),
        pytest.param(
            base64.b64encode(b"['remote \"team\"']\npassword = hunter2\n").decode(), id="base64"
        ),
    ],
)
def test_a_text_that_dvc_can_not_use_is_refused(file: Path, text: str) -> None:
    """The message does not quote it, and the file is gone."""
    with (
        pytest.raises(BadInput, match=r"can't read the text of DVC_CONFIG_LOCAL") as caught,
        local_config(file.parents[1] / "x", text),
    ):
        pytest.fail("the block ran")
    assert "hunter2" not in str(caught.value)
    assert not file.exists()
