"""The places that can hold a ledger, for tests of both stores.

A :class:`Place` is a store, together with direct access to its files or refs that bypasses it.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lynx_pipeline.adapters.ledgers.directory import DirectoryLedger
from lynx_pipeline.adapters.ledgers.git import GitLedger
from lynx_pipeline.adapters.ledgers.store import Store
from lynx_pipeline.config import GitRemote
from lynx_pipeline.domain.ledger.chain import Entry, evidence_path
from lynx_pipeline.domain.ledger.facts import Fact, Promoted
from lynx_pipeline.domain.ledger.state import check_promotion
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline_tests.support.builders import promoted, sha256
from lynx_pipeline_tests.support.signing import sign

BRANCH = "lynx-registry"
A, B = "a" * 64, "b" * 64

# Ignores the git configuration of the machine and the user, and names an author for test commits.
GIT_ENV = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{
        f"GIT_{role}_{what}": "t@t"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    },
}


def git(folder: Path, *arguments: str) -> str:
    """Run git in ``folder``; returns its output without the final newline."""
    return _run_git(folder, *arguments).decode().strip()


def _run_git(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**os.environ, **GIT_ENV},
        input=stdin,
        capture_output=True,
    )
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


class Place(Protocol):
    """A store, and direct access to its content."""

    @property
    def store(self) -> Store:
        """A newly opened store."""

    @property
    def setting(self) -> str:
        """The value of ``registry`` in ``pyproject.toml``."""

    def index(self) -> bytes:
        """The bytes of ``index.jsonl``; empty if it does not exist."""

    def overwrite(self, raw: bytes) -> None:
        """Replace ``index.jsonl`` without using the store."""

    def holds(self, piece: bytes) -> bool:
        """Whether the store contains this piece of evidence."""

    def all(self) -> dict[str, bytes]:
        """The complete content, to detect any change."""


@dataclass(frozen=True)
class InFolder:
    """The directory store."""

    folder: Path

    @property
    def store(self) -> DirectoryLedger:
        return DirectoryLedger(self.folder)

    @property
    def setting(self) -> str:
        return str(self.folder)

    def index(self) -> bytes:
        return self.store.file.read_bytes() if self.store.file.exists() else b""

    def overwrite(self, raw: bytes) -> None:
        self.store.file.write_bytes(raw)

    def holds(self, piece: bytes) -> bool:
        file = self.folder / evidence_path(sha256(piece))
        return file.exists() and file.read_bytes() == piece

    def all(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name != ".lock"
        }


@dataclass(frozen=True)
class OnGit:
    """The git store on the bare repository at ``bare``."""

    bare: Path
    url: str = ""

    @classmethod
    def new(cls, bare: Path, *, partial: bool = False) -> "OnGit":
        """A new repository; ``partial`` allows partial clones."""
        place = cls(bare)
        bare.mkdir(parents=True)
        place.git("init", "--quiet", "--bare", "--template=", ".")
        if partial:
            place.git("config", "uploadpack.allowFilter", "true")
        return place

    @property
    def remote(self) -> GitRemote:
        return GitRemote(self.url or f"file://{self.bare}", BRANCH)

    @property
    def store(self) -> GitLedger:
        return GitLedger(self.remote, "tiny")

    @property
    def setting(self) -> str:
        return f"git+{self.remote.url}#{BRANCH}"

    def git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run git on the repository itself."""
        output = _run_git(self.bare, *arguments, stdin=stdin)
        return output.strip() if arguments[0] != "cat-file" else output

    def index(self) -> bytes:
        if not self.git("for-each-ref", f"refs/heads/{BRANCH}"):
            return b""
        return self.git("cat-file", "blob", f"{BRANCH}:index.jsonl")

    def overwrite(self, raw: bytes) -> None:
        """Replace it with a new commit on the branch."""
        self.git("update-ref", f"refs/heads/{BRANCH}", self.commit(raw, BRANCH))

    def commit(self, raw: bytes, parent: str | None) -> str:
        """A commit whose ``index.jsonl`` is ``raw``; other files are those of ``parent``."""
        blob = self.git("hash-object", "-w", "--stdin", stdin=raw).decode()
        tree = self.git("ls-tree", parent).splitlines() if parent else []
        kept = [line for line in tree if not line.endswith(b"\tindex.jsonl")]
        new = b"\n".join([*kept, f"100644 blob {blob}\tindex.jsonl".encode(), b""])
        made = self.git("mktree", stdin=new).decode()
        parents = ["-p", parent] if parent else []
        return self.git("commit-tree", made, *parents, "-m", "changed by hand").decode()

    def holds(self, piece: bytes) -> bool:
        listed = self.git("ls-tree", BRANCH, evidence_path(sha256(piece))).split()
        return bool(listed) and self.git("cat-file", "blob", listed[2].decode()) == piece

    def refs(self) -> dict[str, str]:
        """The object id of every ref."""
        listed = self.git("for-each-ref", "--format=%(refname) %(objectname)").decode()
        return dict(line.split(" ", 1) for line in listed.splitlines())

    def commits(self) -> list[str]:
        """The branch's commits, oldest first."""
        return self.git("rev-list", "--reverse", BRANCH).decode().split()

    def tags(self) -> list[str]:
        """The names of all tags."""
        return [r.removeprefix("refs/tags/") for r in self.refs() if r.startswith("refs/tags/")]

    def hook(self, name: str, body: str) -> Path:
        """Install ``body`` (sh) as this hook of the repository."""
        file = self.bare / "hooks" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
        return file

    def all(self) -> dict[str, bytes]:
        return {name: target.encode() for name, target in self.refs().items()}


def version(number: int, sha: str = A) -> Promoted:
    """The dev promotion of ``v0.<number>.0-dev``."""
    return promoted(f"v0.{number}.0-dev", canonical_sha=sha)


def promote(store: Store, number: int, evidence: tuple[bytes, ...] = (), sha: str = A) -> Entry:
    """Promote as the registry does, signed: an existing entry is not written again."""
    new = version(number, sha)
    return store.append(
        lambda ledger: check_promotion(ledger, Env.DEV, "tiny", sha, new.semver, None, {}) or new,
        evidence,
        sign,
    ).entry


def facts(store: Store) -> list[Fact]:
    """The verified facts in the store."""
    return [entry.fact for entry in store.read().entries]
