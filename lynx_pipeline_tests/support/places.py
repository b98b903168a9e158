"""The places a ledger can be kept in, for tests that hold in all of them.

A :class:`Place` is a store together with what somebody could do behind its back who may write
where it is kept.
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

BRANCH = "lynx-registry"
A, B = "a" * 64, "b" * 64

# Nothing of the machine's or the user's git configuration, and a name for what tests commit.
GIT_ENV = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(folder: Path, *arguments: str) -> str:
    """Run git there; what it says, without the end of its last line."""
    return _said(folder, *arguments).decode().strip()


def _said(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes:
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
    """A store, and what is kept where it keeps it."""

    @property
    def store(self) -> Store:
        """The store, as a new process would open it."""

    @property
    def setting(self) -> str:
        """The value of ``registry`` in ``pyproject.toml``."""

    def index(self) -> bytes:
        """The bytes of ``index.jsonl``; none if there is none."""

    def overwrite(self, raw: bytes) -> None:
        """Put ``raw`` in the place of ``index.jsonl``, not through the store."""

    def holds(self, piece: bytes) -> bool:
        """Whether this piece of evidence is kept."""

    def all(self) -> dict[str, bytes]:
        """Everything that is kept, so that a change of anything shows."""


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
    """The git store on a bare repository that lies at ``bare``."""

    bare: Path
    url: str = ""

    @classmethod
    def new(cls, bare: Path, *, partial: bool = False) -> "OnGit":
        """A new repository; ``partial``: it lets clones leave files out."""
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
        said = _said(self.bare, *arguments, stdin=stdin)
        return said.strip() if arguments[0] != "cat-file" else said

    def index(self) -> bytes:
        if not self.git("for-each-ref", f"refs/heads/{BRANCH}"):
            return b""
        return self.git("cat-file", "blob", f"{BRANCH}:index.jsonl")

    def overwrite(self, raw: bytes) -> None:
        """As a new commit on the branch."""
        self.git("update-ref", f"refs/heads/{BRANCH}", self.commit(raw, BRANCH))

    def commit(self, raw: bytes, parent: str | None) -> str:
        """A commit whose ``index.jsonl`` is ``raw``; all else is as in ``parent``."""
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
        """Every ref and what it points to."""
        listed = self.git("for-each-ref", "--format=%(refname) %(objectname)").decode()
        return dict(line.split(" ", 1) for line in listed.splitlines())

    def commits(self) -> list[str]:
        """The branch's commits, oldest first."""
        return self.git("rev-list", "--reverse", BRANCH).decode().split()

    def tags(self) -> list[str]:
        """The names of all tags."""
        return [r.removeprefix("refs/tags/") for r in self.refs() if r.startswith("refs/tags/")]

    def hook(self, name: str, body: str) -> Path:
        """Let the repository run ``body`` (sh) as this hook."""
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
    """Promote as the registry does: an entry that stands already is not written again."""
    new = version(number, sha)
    return store.append(
        lambda ledger: check_promotion(ledger, Env.DEV, "tiny", sha, new.semver) or new,
        evidence,
    ).entry


def facts(store: Store) -> list[Fact]:
    """What the store holds, verified."""
    return [entry.fact for entry in store.read().entries]
