"""The page "Use it in your repository", word for word, in an empty folder with the wheel alone."""

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lynx_pipeline_tests.conftest import OURS
from lynx_pipeline_tests.end_to_end.test_docs import blocks
from lynx_pipeline_tests.support.package_index import index
from lynx_pipeline_tests.support.places import GIT_ENV
from lynx_pipeline_tests.support.wheels import our_wheel

pytestmark = pytest.mark.slow

PAGE = "docs/your-repository.md"
MOST_COMMANDS = 8


@dataclass
class Shell:
    """A shell in which the page's commands are typed, one after the other."""

    folder: Path
    words: dict[str, str]
    before: list[str] = field(default_factory=list)

    def type(self, command: str) -> "subprocess.CompletedProcess[str]":
        """Type a command line. What earlier ones did to the shell itself is done again first."""
        for word, value in self.words.items():
            command = re.sub(rf"\b{word}\b", value, command)
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith((*OURS, "VIRTUAL_ENV"))
        }
        return subprocess.run(
            ["bash", "-uo", "pipefail", "-c", "\n".join([*self.before, command])],
            cwd=self.folder,
            env={**inherited, **index(), **GIT_ENV, "PYTHONPATH": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def commands(language: str, number: int) -> list[str]:
    """The lines of the page's block with this number."""
    found = [text for name, text in blocks(PAGE) if name == language]
    return found[number].splitlines()


@pytest.mark.slow(seconds=120)
def test_a_newcomer_gets_a_promoted_and_a_refused_model(tmp_path: Path) -> None:
    """With the commands of the page, of which there are at most eight."""
    words = {"WHEEL": str(our_wheel(tmp_path / "wheel")), "LOGIN": "octocat"}
    shell = Shell(tmp_path, words)

    def typed(command: str, code: int = 0) -> str:
        done = shell.type(command)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    make, install = commands("shell", 0)
    train, init, commit = commands("shell", 1)
    promote, train_again, refuse = commands("shell", 2)
    assert len([make, install, train, init, commit, promote, train_again, refuse]) <= MOST_COMMANDS
    typed(make)
    shell.before.append("cd shop")
    typed(install)
    shell.before.append(". .venv/bin/activate")
    (tmp_path / "shop/train.py").write_text("\n".join(commands("python", 0)) + "\n")
    words["RUN_ID"] = typed(train).split()[-1]
    assert "nobody can be asked here" in shell.type(init).stderr
    assert "eval_baseline.json has 8 buckets: 60 of 60 right" in typed(f"{init} --yes")
    typed(commit)
    assert "\nPROMOTED: shop v0.1.0-dev is " in typed(promote)
    words["SECOND_RUN_ID"] = typed(train_again).split()[-1]
    (shown,) = (text for name, text in blocks(PAGE) if name == "text" and "REFUSED" in text)
    assert shown in typed(refuse, 1)
    listed = typed("lynx-pipeline registry list")
    assert "v0.1.0-dev" in listed
    assert "v0.2.0-dev" not in listed
    assert "skipped  production: " in typed("lynx-pipeline doctor")
    assert typed("git status --porcelain") == ""

    install, remove, again, diff = commands("shell", 3)
    for command in (install, remove, again):
        typed(command)
    assert typed(diff) == ""  # it is the same version
