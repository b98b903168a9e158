"""The ledger on a git branch: one commit an entry, one annotated tag a commit.

Commit and tag go up in one ``git push --atomic`` that names the commit it builds on, so the
branch moves from what was read to the new entry or not at all. Whoever loses reads again and
decides again. The tags remember size and hash of the ledger at every entry, and the branch has
to extend them all: a branch that was wound back or rewritten does not go unseen.

A promotion's tag is ``<model>@<semver>``, any other entry's ``<model>@<event>-<seq>``. The
branch's move is the commit point. A remote that died between branch and tag has an entry without
its tag: nothing is read from there until the same promotion, run again, has restored it.

Each operation works in a clone of its own, without files and without the evidence, and leaves
nothing behind. Transport and credentials are git's, as it is configured. A branch holds the
ledger of one model.
"""

import hashlib
import random
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lynx_pipeline.adapters.ledgers.git_branch import Branch
from lynx_pipeline.adapters.ledgers.store import Decision, Recorded
from lynx_pipeline.config import GitRemote
from lynx_pipeline.domain.ledger.chain import (
    Checkpoint,
    Entry,
    Ledger,
    check_digest,
    evidence_path,
    parse_ledger,
    read_checkpoint,
)
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.errors import BadInput, SystemFailed

# Of pushes that the remote turned down although nobody was faster (a hook, a lock, a rule), and of
# reads in which branch and tags contradict each other.
PATIENCE = 3
# How long to go on while others are faster.
RACE_SECONDS = 600.0
_INDEX = "index.jsonl"
_AUTHOR = "lynx-pipeline <lynx-pipeline@localhost>"


class GitLedger:
    """The ledger of ``model`` on a branch of a remote. Reading changes nothing there.

    With ``pinned`` git's configuration may say how the remote is reached, not that it is another.
    """

    def __init__(self, remote: GitRemote, model: str, *, pinned: bool = False) -> None:
        self.remote = remote
        self.model = model
        self.pinned = pinned

    def read(self) -> Ledger:
        """The verified ledger; empty if the branch does not exist yet.

        Raises:
            BadInput: it is damaged, or a tag remembers it otherwise.
            Refused: git's configuration leads to another remote than the pinned one.
            SystemFailed: git or the remote failed.
        """
        with self._clone() as clone:
            at = clone.read()
            if at.untagged is not None:
                raise BadInput(clone.lacks_its_tag(at.untagged))
            return at.ledger

    def append(self, decide: Decision, evidence: Iterable[bytes] = ()) -> Recorded:
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
            turned_down, pushed, start = 0, None, time.monotonic()
            while time.monotonic() - start < RACE_SECONDS:
                at = clone.read()
                if pushed and pushed in at.ledger.entries:  # it arrived, though we were told no
                    clone.restore_tag(at)
                    return Recorded(pushed, True)
                decided = decide(at.ledger)
                if at.untagged is not None and decided != at.untagged:
                    raise BadInput(clone.lacks_its_tag(at.untagged))
                if isinstance(decided, Entry):
                    clone.restore_tag(at)
                    return Recorded(decided, False)
                pushed = at.ledger.next_entry(decided)
                answer = clone.push(at, pushed, evidence)
                if answer is None:
                    return Recorded(pushed, True)
                if clone.branch.head() == at.commit:
                    turned_down += 1
                    if turned_down >= PATIENCE:
                        raise SystemFailed(
                            f"{self.remote}: the remote did not take the entry: {answer}. The "
                            "registry was not seen to change; running this again is safe."
                        )
                time.sleep(random.uniform(0.05, 0.4))  # noqa: S311  # only spreads them
        raise SystemFailed(
            f"{self.remote}: others were faster for {RACE_SECONDS:.0f} seconds. Nothing was "
            "changed; run this again."
        )

    def evidence(self, sha256: str) -> bytes:
        """A piece of evidence, by the digest that an entry names.

        Raises:
            BadInput: it is not there, or its bytes have another digest.
        """
        with self._clone() as clone:
            raw = clone.branch.file(evidence_path(sha256)) if clone.branch.fetch() else None
            return check_digest(raw, sha256, str(self.remote))

    @contextmanager
    def _clone(self) -> Iterator["_Clone"]:
        with tempfile.TemporaryDirectory(prefix="lynx-registry-") as folder:
            yield _Clone(Path(folder), self)


@dataclass(frozen=True, slots=True)
class _Tag:
    """The commit an annotated tag names, and what it remembers. A lightweight tag, or another's,
    say a release's, remembers nothing."""

    commit: str
    checkpoint: Checkpoint | None


@dataclass(frozen=True, slots=True)
class _At:
    """The ledger as it was at a commit of the branch; ``commit`` None: there is no branch.
    ``untagged`` is the last entry, if its tag lacks."""

    commit: str | None
    raw: bytes
    ledger: Ledger
    untagged: Entry | None


class _Clone:
    """The registry in a clone of its branch, for one operation."""

    def __init__(self, folder: Path, store: GitLedger) -> None:
        self.remote = store.remote
        self.model = store.model
        self.branch = Branch(folder, store.remote, f"{store.model}@", pinned=store.pinned)
        self.attempt = 0

    def read(self) -> _At:
        """Fetch and verify. A push that arrives meanwhile can show its branch before its tag,
        or the other way round, so a contradiction counts only when it stays."""
        for _ in range(PATIENCE - 1):
            with suppress(BadInput):
                at = self._read()
                if at.untagged is None:
                    return at
            time.sleep(0.3)
        return self._read()

    def lacks_its_tag(self, entry: Entry) -> str:
        """What to say of a last entry without its tag."""
        return (
            f"{self.remote}, line {entry.seq}: its tag {_tag_name(entry)} lacks: the remote "
            "stopped between branch and tag, and the same promotion or rollback, run again, "
            "restores it; or something else pushed the branch. Look at its history."
        )

    def push(self, at: _At, entry: Entry, evidence: Iterable[bytes]) -> str | None:
        """Put ``entry`` after what was read. None if the remote took it, else what it said."""
        self.attempt += 1
        ref, tag = f"refs/lynx/{self.attempt}", _tag_name(entry)
        line = entry.to_line()
        ledger = Ledger((*at.ledger.entries, entry), at.ledger.size + len(line))
        files = {evidence_path(hashlib.sha256(raw).hexdigest()): raw for raw in evidence}
        files[_INDEX] = at.raw + line
        self.branch.add(_commit(ref, at.commit, entry, files), _tag(ref, ledger))
        refs = (f"{ref}:{self.branch.ref}", f"refs/tags/{tag}:refs/tags/{tag}")
        return self.branch.push(at.commit, *refs)

    def restore_tag(self, at: _At) -> None:
        """Put back the last entry's tag if it lacks.

        Raises:
            SystemFailed: the remote did not take it.
        """
        if at.untagged is None or at.commit is None:
            return
        self.branch.add(_tag(at.commit, at.ledger))
        tag = _tag_name(at.untagged)
        answer = self.branch.push(at.commit, f"refs/tags/{tag}:refs/tags/{tag}")
        if answer is not None:
            raise SystemFailed(f"{self.remote}: the remote did not take the tag {tag}: {answer}.")

    def _read(self) -> _At:
        commits: list[str] = []
        raw = b""
        if self.branch.fetch():
            commits = self.branch.commits()
            found = self.branch.file(_INDEX)
            if found is None:
                raise BadInput(f"{self.remote}: is no registry: it holds no {_INDEX}.")
            raw = found
        tags = self._tags()
        remembered = [tag.checkpoint for tag in tags.values() if tag.checkpoint]
        ledger = parse_ledger(raw, str(self.remote), remembered)
        if ledger.torn:
            raise BadInput(f"{self.remote}, line {len(ledger.entries) + 1}: has no end.")
        untagged = self._untagged(ledger, commits, tags)
        return _At(commits[-1] if commits else None, raw, ledger, untagged)

    def _untagged(self, ledger: Ledger, commits: list[str], tags: dict[str, _Tag]) -> Entry | None:
        """The last entry, if its tag lacks. Raises BadInput unless each entry else has its commit
        and its tag, and there is none besides."""
        untagged = None
        if len(commits) != len(ledger.entries):
            raise BadInput(
                f"{self.remote}, line {min(len(commits), len(ledger.entries)) + 1}: the branch "
                f"has {len(commits)} commits and the ledger {len(ledger.entries)} entries: "
                "something else pushed there. Look at its history; nothing was changed."
            )
        for entry, commit in zip(ledger.entries, commits, strict=True):
            here = f"{self.remote}, line {entry.seq}"
            if entry.fact.model != self.model:
                raise BadInput(
                    f"{here}: is about the model {entry.fact.model!r}. A branch holds one model's "
                    "ledger; give each its own."
                )
            name = _tag_name(entry)
            tag = tags.pop(name, None)
            if tag and tag.commit == commit and tag.checkpoint and tag.checkpoint.seq == entry.seq:
                continue
            if entry is not ledger.entries[-1] or (tag and tag.checkpoint):
                raise BadInput(
                    f"{here}: its tag {name} is gone or another. Push it again from a clone that "
                    "has it; nothing was changed."
                )
            untagged = entry
        for name, tag in tags.items():
            if tag.checkpoint:
                raise BadInput(
                    f"{self.remote}, tag {name}: is of no entry. Delete it; nothing was changed."
                )
        return untagged

    def _tags(self) -> dict[str, _Tag]:
        """The tags that begin like ours, by name."""
        return {
            name: _Tag(target, _remembered(message) if target else None)
            for name, target, message in self.branch.annotated()
        }


def _tag_name(entry: Entry) -> str:
    fact = entry.fact
    name = fact.semver if isinstance(fact, Promoted) else f"{fact.event}-{entry.seq}"
    return f"{fact.model}@{name}"


def _remembered(message: bytes) -> Checkpoint | None:
    """The checkpoint on the last line of a tag's message, if it is one."""
    try:
        return read_checkpoint(message.strip(b"\n").rpartition(b"\n")[2], "tag")
    except BadInput:
        return None


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
