"""The ledger on a git branch: one commit an entry, one annotated tag a commit.

Commit and tag go up in one ``git push --atomic`` that names the commit it builds on, so the
branch moves from what was read to the new entry or not at all. Whoever loses reads again and
decides again. The tags remember size and hash of the ledger at every entry, and the branch has
to extend them all: a branch that was wound back or rewritten does not go unseen.

A promotion's tag is ``<model>@<semver>``, any other entry's ``<model>@<event>-<seq>``. The
branch's move is the commit point: a remote that died between branch and tag has the new entry,
and the next append restores the tag that lacks.

Each operation works in a clone of its own, without files and without the evidence, and leaves
nothing behind. Transport and credentials are git's, as it is configured.
"""

import hashlib
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lynx_pipeline.adapters.git_files import NOT_OURS
from lynx_pipeline.config import GitRemote
from lynx_pipeline.domain.ledger import (
    PROMOTED,
    Checkpoint,
    Decision,
    Entry,
    Ledger,
    check_evidence,
    evidence_path,
    parse_ledger,
    read_checkpoint,
)
from lynx_pipeline.errors import BadInput, SystemFailed

GIT_SECONDS = 120.0
# Of pushes that the remote turned down although nobody was faster: a hook, a lock, a rule.
PATIENCE = 3
_INDEX = "index.jsonl"
_AUTHOR = "lynx-pipeline <lynx-pipeline@localhost>"


class GitLedger:
    """The ledger of ``model`` on a branch of a remote. Reading changes nothing there."""

    def __init__(self, remote: GitRemote, model: str) -> None:
        self.remote = remote
        self.model = model

    def read(self) -> Ledger:
        """The verified ledger; empty if the branch does not exist yet.

        Raises:
            BadInput: it is damaged, or a tag remembers it otherwise.
            SystemFailed: git or the remote failed.
        """
        with self._clone() as clone:
            return clone.read().ledger

    def append(self, decide: Decision, evidence: Iterable[bytes] = ()) -> Entry:
        """Append what ``decide`` says, and keep ``evidence`` beside it.

        ``decide`` gets the ledger as it is and returns the fact to append, or the entry that
        already holds it, or raises; then nothing is pushed. It is asked again each time that
        somebody else was faster.

        Raises:
            SystemFailed: git or the remote failed. The ledger is the old one or the new one;
                running it again is right for both.
        """
        evidence = tuple(evidence)
        with self._clone() as clone:
            turned_down, pushed = 0, None
            while True:
                at = clone.read()
                if pushed and pushed in at.ledger.entries:  # it arrived, though we were told no
                    return pushed
                decided = decide(at.ledger)
                if isinstance(decided, Entry):
                    clone.restore_tag(at)
                    return decided
                pushed = at.ledger.next_entry(decided)
                said = clone.push(at, pushed, evidence)
                if said is None:
                    return pushed
                if clone.head() == at.commit:
                    turned_down += 1
                    if turned_down >= PATIENCE:
                        raise SystemFailed(
                            f"{self.remote}: the remote did not take the entry: {said}. The "
                            "registry is as it was."
                        )
                time.sleep(random.uniform(0.05, 0.4))  # noqa: S311  # only spreads them

    def evidence(self, sha256: str) -> bytes:
        """A piece of evidence, by the digest that an entry names.

        Raises:
            BadInput: it is not there, or its bytes have another digest.
        """
        with self._clone() as clone:
            clone.fetch()
            return check_evidence(clone.file(evidence_path(sha256)), sha256, str(self.remote))

    @contextmanager
    def _clone(self) -> Iterator["_Clone"]:
        with tempfile.TemporaryDirectory(prefix="lynx-registry-") as folder:
            yield _Clone(Path(folder), self.remote, self.model)


@dataclass(frozen=True, slots=True)
class _Tag:
    """An annotated tag of ours: which commit it names and what it remembers."""

    name: str
    commit: str
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class _At:
    """The ledger as it was at a commit of the branch; ``commit`` None: there is no branch.
    ``untagged`` is the last entry, if its tag lacks."""

    commit: str | None
    raw: bytes
    ledger: Ledger
    untagged: Entry | None


class _Clone:
    """A bare clone without blobs, for one operation."""

    def __init__(self, folder: Path, remote: GitRemote, model: str) -> None:
        self.folder = folder
        self.remote = remote
        self.model = model
        self.branch = f"refs/heads/{remote.branch}"
        self.attempt = 0
        self._git("init", "--quiet", "--bare", "--template=", ".")
        self._git("remote", "add", "origin", remote.url)

    def read(self) -> _At:
        """Fetch and verify. A push that arrives meanwhile can show its branch before its tag,
        or the other way round, so a contradiction counts only when it stays."""
        for _ in range(PATIENCE - 1):
            with suppress(BadInput):
                return self._read()
            time.sleep(0.3)
        return self._read()

    def push(self, at: _At, entry: Entry, evidence: Iterable[bytes]) -> str | None:
        """Put ``entry`` after what was read. None if the remote took it, else what it said."""
        self.attempt += 1
        ref, tag = f"refs/lynx/{self.attempt}", _tag_name(entry)
        line = entry.to_line()
        ledger = Ledger((*at.ledger.entries, entry), at.ledger.size + len(line))
        files = {evidence_path(hashlib.sha256(raw).hexdigest()): raw for raw in evidence}
        files[_INDEX] = at.raw + line
        self._import(_commit(ref, at.commit, entry, files), _tag(ref, ledger))
        refs = [f"{ref}:{self.branch}", f"refs/tags/{tag}:refs/tags/{tag}"]
        return self._push(at.commit, [*refs, *self._lacking_tag(at)])

    def restore_tag(self, at: _At) -> None:
        """Put back the last entry's tag if it lacks; if that fails the next append tries again."""
        lacking = self._lacking_tag(at)
        if lacking:
            self._push(at.commit, lacking)

    def _lacking_tag(self, at: _At) -> list[str]:
        if at.untagged is None or at.commit is None:
            return []
        self._import(_tag(at.commit, at.ledger))
        tag = _tag_name(at.untagged)
        return [f"refs/tags/{tag}:refs/tags/{tag}"]

    def _import(self, *commands: bytes) -> None:
        script = b"".join((*commands, b"done\n"))
        self._git("fast-import", "--quiet", "--force", "--done", stdin=script)

    def head(self) -> str | None:
        """The branch's commit on the remote now."""
        found = self._git("ls-remote", "origin", self.branch).decode().split()
        return found[0] if found else None

    def file(self, path: str) -> bytes | None:
        """A file at the fetched branch, or None if it has no such."""
        if self._commit() is None:
            return None
        listed = self._git("ls-tree", self.branch, "--", path).split()
        return self._git("cat-file", "blob", listed[2].decode()) if listed else None

    def _read(self) -> _At:
        self.fetch()
        commit = self._commit()
        tags = self._tags(commit)
        raw = self.file(_INDEX) if commit else b""
        if raw is None:
            raise BadInput(f"{self.remote}: is no registry: it holds no {_INDEX}.")
        ledger = parse_ledger(raw, str(self.remote), (tag.checkpoint for tag in tags))
        if ledger.torn:
            raise BadInput(f"{self.remote}, line {len(ledger.entries) + 1}: has no end.")
        return _At(commit, raw, ledger, self._untagged(ledger, tags))

    def _untagged(self, ledger: Ledger, tags: list[_Tag]) -> Entry | None:
        """The last entry, if its tag lacks. Any other tag that lacks was deleted."""
        have = {tag.checkpoint.seq: tag.name for tag in tags}
        for entry in ledger.entries:
            if entry.fact.model != self.model:
                continue
            name = _tag_name(entry)
            if have.get(entry.seq) == name:
                continue
            if entry.seq not in have and entry is ledger.entries[-1]:
                return entry
            raise BadInput(
                f"{self.remote}, line {entry.seq}: its tag {name} is gone or another. Push it "
                "again from a clone that has it; nothing was changed."
            )
        return None

    def _tags(self, commit: str | None) -> list[_Tag]:
        form = "%(refname:lstrip=2)%00%(objecttype)%00%(*objectname)%00%(contents)%00%01"
        listed = self._git("for-each-ref", f"--format={form}", f"refs/tags/{self.model}@*")
        reachable = set(self._git("rev-list", commit).split()) if commit and listed else set()
        tags = []
        for row in listed.split(b"\0\x01\n"):
            if not row:
                continue
            name, kind, target, message = row.split(b"\0", 3)
            here = f"{self.remote}, tag {name.decode()}"
            if kind != b"tag":
                raise BadInput(f"{here}: is no annotated tag, so it is not the registry's.")
            checkpoint = _remembered(message, here)
            if target not in reachable:
                raise BadInput(
                    f"{here}: names a commit that the branch does not hold: line "
                    f"{checkpoint.seq} was cut off or rewritten."
                )
            tags.append(_Tag(name.decode(), target.decode(), checkpoint))
        return tags

    def fetch(self) -> None:
        """The branch and this model's tags as they are now; no file yet."""
        tags = f"refs/tags/{self.model}@*"
        fetch = ("fetch", "--quiet", "--no-tags", "--prune", "--filter=tree:0", "origin")
        refs = (f"+{self.branch}:{self.branch}", f"+{tags}:{tags}")
        try:
            self._git(*fetch, *refs)
        except SystemFailed:
            if self.head() is not None:
                raise
            self._git("update-ref", "-d", self.branch)
            self._git(*fetch, refs[1])

    def _push(self, old: str | None, refs: list[str]) -> str | None:
        lease = f"--force-with-lease={self.branch}:{old or ''}"
        try:
            self._git("push", "--quiet", "--atomic", lease, "origin", *refs)
        except SystemFailed as error:
            return str(error)
        return None

    def _commit(self) -> str | None:
        found = self._git("for-each-ref", "--format=%(objectname)", self.branch)
        return found.decode().strip() or None

    def _git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        environ = {k: v for k, v in os.environ.items() if k not in NOT_OURS}
        environ |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        try:
            process = subprocess.Popen(
                ["git", *arguments],
                cwd=self.folder,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # no terminal to ask on, and one group to end
            )
        except OSError as error:
            raise SystemFailed(f"git can't be run: {error.strerror}. Install it.") from None
        try:
            out, err = process.communicate(stdin, timeout=GIT_SECONDS)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise SystemFailed(
                    f"{self.remote}: git {arguments[0]} took more than {GIT_SECONDS:.0f} "
                    "seconds. Check the remote, then run this again."
                ) from None
            raise
        if process.returncode != 0:
            said = " ".join(err.decode(errors="replace").split())[:500]
            raise SystemFailed(f"{self.remote}: git {arguments[0]} failed: {said}")
        return out


def _tag_name(entry: Entry) -> str:
    fact = entry.fact
    return f"{fact.model}@{fact.semver if fact.event == PROMOTED else f'{fact.event}-{entry.seq}'}"


def _remembered(message: bytes, where: str) -> Checkpoint:
    """The checkpoint on the last line of a tag's message."""
    return read_checkpoint(message.strip(b"\n").rpartition(b"\n")[2], where)


def _commit(ref: str, parent: str | None, entry: Entry, files: Mapping[str, bytes]) -> bytes:
    """The fast-import command for a commit that adds or replaces ``files``."""
    message = f"{_title(entry)}\n\nentry {entry.seq}, hash {entry.hash}\n".encode()
    lines = [f"commit {ref}\ncommitter {_signed(entry)}\n".encode(), _data(message)]
    if parent is not None:
        lines.append(f"from {parent}\n".encode())
    for path, raw in files.items():
        lines += [f"M 100644 inline {path}\n".encode(), _data(raw)]
    return b"".join(lines)


def _tag(commit: str, ledger: Ledger) -> bytes:
    """The fast-import command for the annotated tag of the ledger's last entry."""
    entry, checkpoint = ledger.entries[-1], ledger.checkpoint()
    assert checkpoint is not None
    message = f"{_title(entry)}\n\n".encode() + checkpoint.to_line()
    head = f"tag {_tag_name(entry)}\nfrom {commit}\ntagger {_signed(entry)}\n"
    return head.encode() + _data(message)


def _title(entry: Entry) -> str:
    fact = entry.fact
    return f"{fact.event} {fact.model} {fact.semver or fact.canonical_sha[:12]} in {fact.env}"


def _signed(entry: Entry) -> str:
    when = datetime.fromisoformat(entry.fact.time)
    return f"{_AUTHOR} {int(when.timestamp())} +0000"


def _data(raw: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(raw), raw)
