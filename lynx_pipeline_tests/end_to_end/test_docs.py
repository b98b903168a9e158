"""The documentation's examples work: every shell block of README and docs runs in order in a fresh
clone, and prints what the page shows.

Blocks marked ``bash`` are for root on a server with systemd. They are linted here, and
``simulators/server/test_page.py`` runs them on a separate machine.
"""

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from lynx_pipeline_tests.conftest import OURS
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.places import GIT_ENV
from lynx_pipeline_tests.support.warm import environment

# The README comes first: the other pages use the results of its demonstration.
PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (REPO / "docs").glob("*.md")))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Lines that are not run here, with what runs them. Each must appear on a page.
RUN_ELSEWHERE = {
    "./dev test": "this very suite",
    "./dev rehearse": "end_to_end/test_rehearsal.py",
    "just rehearse": "end_to_end/test_rehearsal.py",
    "just deployment": "simulators/server/test_deployment.py",
    **dict.fromkeys(
        (
            "./dev run python -m examples.miniserve --port 8080",
            "./dev run lynx-pipeline canary v0.1.0-dev --url http://127.0.0.1:8080/predict",
            "PYTHONDONTWRITEBYTECODE=1 ./dev run mlflow models serve -m models/v0.1.0-dev "
            "--env-manager local --port 5001",
            "./dev run lynx-pipeline canary v0.1.0-dev --url http://127.0.0.1:5001/invocations",
        ),
        "examples/miniserve/test_canary.py",
    ),
}


@dataclass
class Clone:
    """A fresh clone, and the values of the placeholders in capitals."""

    root: Path
    environ: dict[str, str]
    words: dict[str, str] = field(default_factory=dict)

    def run(self, script: str) -> str:
        """Run a block, which must succeed; returns its output."""
        for word, value in self.words.items():
            script = re.sub(rf"\b{word}\b", value, script)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.root,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def save_demo(self) -> None:
        """Save the demonstration's results, and the values of the pages' placeholders."""
        shutil.copytree(self.root / ".lynx", self.root / ".lynx-then")
        (entry,) = (self.root / ".lynx/registry/index.jsonl").read_text().splitlines()
        good = json.loads(entry)["mlflow_run_id"]
        (bad,) = (f.name for f in (self.root / ".lynx/candidates").iterdir() if f.name != good)
        bundle = f".lynx/candidates/{good}/bundle"
        self.words = {"REFUSED_RUN_ID": bad, "RUN_ID": good, "DIR": bundle}

    def restore_demo(self) -> None:
        """Restore the state after the demonstration, in which each page starts."""
        git(self.root, "checkout", "--quiet", ".")
        # Data that a page has replaced; DVC pulls the recorded one again.
        for record in self.root.glob("data/*/*.dvc"):
            record.with_suffix("").unlink(missing_ok=True)
        if self.words:
            shutil.rmtree(self.root / ".lynx")
            shutil.copytree(self.root / ".lynx-then", self.root / ".lynx")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone of this working tree, with the current Python environment."""
    folder = tmp_path_factory.mktemp("docs")
    root = folder / "clone"
    origin(folder / "origin")
    git(folder, "clone", "--quiet", str(folder / "origin"), str(root))
    ready = environment()
    (root / ".venv").mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (root / ".venv" / part).symlink_to(ready / part)
    lock = "requirements-dev.lock"
    checksum = subprocess.check_output(f"cat {lock} pyproject.toml | cksum", shell=True, cwd=root)
    (root / ".venv/installed").write_text(f"{checksum.decode().strip()} {lock}\n")
    environ = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    return Clone(root, {**environ, **GIT_ENV})


def origin(folder: Path) -> None:
    """Make ``folder`` a repository of this working tree."""
    git(REPO, "clone", "--quiet", "--no-hardlinks", str(REPO), str(folder))
    names = git(REPO, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in names.split("\0"):
        if name and (REPO / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, folder / name)
    git(folder, "checkout", "--quiet", "-B", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "As it is")


def git(folder: Path, *arguments: str) -> str:
    """Run git; returns its output."""
    environ = {**os.environ, **GIT_ENV}
    return subprocess.check_output(["git", *arguments], cwd=folder, env=environ, text=True)


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page, with their languages."""
    for match in FENCE.finditer((REPO / page).read_text()):
        yield match[1], match[2]


def to_run(block: str) -> str:
    """The block without the lines that run elsewhere."""
    lines = block.splitlines()
    return "\n".join(line for line in lines if without_comment(line) not in RUN_ELSEWHERE)


def without_comment(line: str) -> str:
    """The line without its comment."""
    return line.partition("  #")[0].strip()


@pytest.mark.slow(seconds=150)
def test_every_shell_block_works_as_documented(clone: Clone) -> None:
    """All pages share one clone. A console block shows output of the shell blocks on its page."""
    for page in PAGES:
        clone.restore_demo()
        printed: list[str] = []
        for language, block in blocks(page):
            if language == "sh":
                printed += clone.run(to_run(block)).splitlines()
                if not clone.words:
                    clone.save_demo()
            elif language == "console":
                for line in block.splitlines():
                    pattern = line.replace("[", "[[]").replace("…", "*")
                    assert any(fnmatchcase(it, pattern) for it in printed), (page, line, printed)


def test_blocks_for_root_are_valid_shell() -> None:
    """A page's blocks are linted as one script, and the repository's files that it names exist."""
    for page in PAGES:
        script = "".join(block for language, block in blocks(page) if language == "bash")
        if script:
            done = subprocess.run(
                ["shellcheck", "--shell=bash", "--exclude=SC2164", "-"],
                input=script,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout
        for name in re.findall(r"(?<=[ /])(?:deploy/[\w./-]+|requirements[\w.-]+)", script):
            assert (REPO / name).exists(), (page, name)


def test_every_excluded_line_is_on_a_page() -> None:
    """No exclusion is outdated."""
    shown = {
        without_comment(line)
        for page in PAGES
        for language, block in blocks(page)
        if language == "sh"
        for line in block.splitlines()
    }
    assert RUN_ELSEWHERE.keys() <= shown


def test_quoted_errors_are_in_the_code() -> None:
    """Every message in a heading of the troubleshooting page is in the code."""
    texts = {
        node.value
        for file in (REPO / "lynx_pipeline").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    page = (REPO / "docs/troubleshooting.md").read_text()
    quoted = [
        part.strip()
        for heading in re.findall(r"^### (.*)$", page, re.MULTILINE)
        for quote in re.findall(r'"([^"]+)"', heading)
        for part in quote.split("…")
        if part.strip()
    ]
    assert quoted
    assert [part for part in quoted if not any(part in text for text in texts)] == []


def test_links_point_to_files_and_headings() -> None:
    """Links to other sites are not checked."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", (REPO / page).read_text()):
            if "://" in target:
                continue
            path, _, heading = target.partition("#")
            file = (REPO / page).parent / path if path else REPO / page
            assert file.exists(), (page, target)
            if heading:
                titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
                assert heading in {
                    re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles
                }, (page, target)
