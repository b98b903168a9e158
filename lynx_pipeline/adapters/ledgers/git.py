"""The ledger on a git branch: one commit per entry, one annotated tag per commit.

Commit and tag are pushed in one ``git push --atomic`` that names the commit it builds on. So the
branch moves from the commit that was read to the new entry, or not at all. A writer that loses the
race reads and decides again. Each tag records size and hash of the ledger at its entry, and the
branch must extend all of them, so a branch that was reset or rewritten is detected. A tag also has
the entry's signature, so that no later push to the branch can take it away. Somebody else's commits
and tags that leave the ledger as it is are reported, and change nothing.

A promotion's tag is ``<model>@<semver>``, any other entry's ``<model>@<event>-<seq>``. The
branch's move is the commit point. A remote that crashed between branch and tag has an entry whose
tag is missing. Reading fails there until the same promotion, run again, has restored the tag. In
``prod`` the signature is missing too, so the entry no longer counts: a repair removes it.

Each operation works in its own temporary clone, without files and without the evidence.
Transport, credentials and signing are git's, as configured. A branch contains the ledger of one
model.
"""

import hashlib
import random
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from lynx_pipeline.adapters.git import ended
from lynx_pipeline.adapters.ledgers.git_branch import Branch
from lynx_pipeline.adapters.ledgers.git_objects import (
    INDEX,
    Tag,
    commit_command,
    is_ours,
    is_repair,
    read_message,
    tag_command,
    tag_name,
)
from lynx_pipeline.adapters.ledgers.store import Decision, Recorded, Sign, unsigned
from lynx_pipeline.config import GitRemote
from lynx_pipeline.domain.ledger.chain import (
    Entry,
    Ledger,
    check_digest,
    evidence_path,
    parse_ledger,
)
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, SystemFailed

# How many times to try a push that the remote rejects although no other writer was faster (a hook,
# a lock, a rule), and a read in which branch and tags contradict each other.
PATIENCE = 3
# How long to keep trying while other writers are faster.
RACE_SECONDS = 600.0


class GitLedger:
    """The ledger of ``model`` on a branch of a remote. Reading changes nothing there.

    With ``pinned``, git's configuration may change how the remote is reached, but not which remote
    it is. With ``witnessed``, the witnesses' checkpoints are read too.
    """

    def __init__(
        self, remote: GitRemote, model: str, *, pinned: bool = False, witnessed: bool = False
    ) -> None:
        self.remote = remote
        self.model = model
        self.pinned = pinned
        self.witnessed = witnessed

    def read(self) -> Ledger:
        """The verified ledger; empty if the branch does not exist yet.

        Raises:
            BadInput: it is damaged, or contradicts a tag.
            Refused: git's configuration redirects to another remote than the pinned one.
            SystemFailed: git or the remote failed.
        """
        with self.clone() as clone:
            snapshot = clone.read()
            if snapshot.untagged is not None:
                raise BadInput(clone.missing_tag_message(snapshot.untagged))
            return snapshot.ledger

    def state(self) -> str:
        """The ``state`` that :meth:`read` would return now.

        Raises:
            Refused: git's configuration redirects to another remote than the pinned one.
            SystemFailed: git or the remote failed.
        """
        with self.clone() as clone:
            return clone.branch.remote_state()

    def append(
        self, decide: Decision, evidence: Iterable[bytes] = (), sign: Sign = unsigned
    ) -> Recorded:
        """Append what ``decide`` returns, and store ``evidence`` and the signature beside it.

        ``decide`` gets the current ledger and returns the fact to append, or the entry that
        already records it; ``sign`` returns the new entry's signature. If one raises, nothing is
        pushed. They are called again each time another writer was faster.

        Raises:
            SystemFailed: git or the remote failed. The ledger is the old one or the new one.
                Running it again is safe in both cases.
        """
        evidence = tuple(evidence)
        with self.clone() as clone:
            rejections, pushed, start = 0, None, time.monotonic()
            while time.monotonic() - start < RACE_SECONDS:
                snapshot = clone.read()
                if pushed and pushed in snapshot.ledger.entries:  # it arrived despite the error
                    clone.restore_tag(snapshot, sign)
                    return Recorded(pushed, True)
                decided = decide(snapshot.ledger)
                if snapshot.untagged is not None and decided != snapshot.untagged:
                    raise BadInput(clone.missing_tag_message(snapshot.untagged))
                if isinstance(decided, Entry):
                    clone.restore_tag(snapshot, sign)
                    return Recorded(decided, False)
                pushed = snapshot.ledger.next_entry(decided)
                clone.check_tag_is_free(pushed)
                error = clone.push(snapshot, pushed, evidence, sign(pushed))
                if error is None:
                    return Recorded(pushed, True)
                if clone.branch.head() == snapshot.commit:
                    rejections += 1
                    if rejections >= PATIENCE:
                        raise SystemFailed(
                            f"{self.remote}: the remote rejected the entry: {ended(error)} The "
                            "registry did not change as far as we can see. Check the remote's "
                            f"rules and hooks{_signing_advice(error)}; running this again is safe."
                        )
                time.sleep(random.uniform(0.05, 0.4))  # noqa: S311  # only spreads the writers
        raise SystemFailed(
            f"{self.remote}: the entry could not be pushed: other writers were faster for "
            f"{RACE_SECONDS:.0f} seconds. Nothing was changed; run this again."
        )

    def evidence(self, sha256: str) -> bytes:
        """The piece of evidence with this digest, as an entry names it.

        Raises:
            BadInput: it is missing, or its bytes have another digest.
            Refused: git's configuration redirects to another remote than the pinned one.
            SystemFailed: git or the remote failed.
        """
        with self.clone() as clone:
            raw = clone.branch.file(evidence_path(sha256)) if clone.branch.fetch() else None
            return check_digest(raw, sha256, str(self.remote))

    @contextmanager
    def clone(self) -> Iterator["Clone"]:
        """A clone for one operation, deleted at its end."""
        with tempfile.TemporaryDirectory(prefix="lynx-registry-") as folder:
            yield Clone(Path(folder), self)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The ledger at a commit of the branch, which is None if there is no branch. ``untagged`` is
    the last entry if its tag is missing."""

    commit: str | None
    raw: bytes
    ledger: Ledger
    untagged: Entry | None


class Clone:
    """The registry in a clone of its branch, for one operation."""

    def __init__(self, folder: Path, store: GitLedger) -> None:
        self.remote = store.remote
        self.model = store.model
        self.branch = Branch(folder, store.remote, f"{store.model}@", pinned=store.pinned)
        if store.witnessed:
            self.branch.fetch_checkpoints(store.model)
        self.attempt = 0

    def read(self) -> Snapshot:
        """Fetch and verify. A concurrent push may show its branch before its tag, or the other way
        round, so a contradiction is an error only if it persists."""
        for _ in range(PATIENCE - 1):
            with suppress(BadInput):
                snapshot = self._read()
                if snapshot.untagged is None:
                    return snapshot
            time.sleep(0.3)
        return self._read()

    def missing_tag_message(self, entry: Entry) -> str:
        """The error message for a last entry whose tag is missing."""
        if entry.fact.env is Env.PROD:
            return (
                f"{self.remote}, line {entry.seq}: its tag {tag_name(entry)} is missing, and with "
                "it the signature. Push the tag again from a clone that has it. If nobody has it, "
                "or something else pushed to the branch, run 'lynx-pipeline registry repair': it "
                "removes the entry. Then promote again."
            )
        return (
            f"{self.remote}, line {entry.seq}: its tag {tag_name(entry)} is missing. Either the "
            "remote failed between branch and tag: then run the same promotion or rollback again "
            "to restore the tag. Or something else pushed to the branch: check its history."
        )

    def push(
        self,
        snapshot: Snapshot,
        entry: Entry,
        evidence: Iterable[bytes],
        signature: bytes | None,
    ) -> str | None:
        """Push ``entry`` on top of ``snapshot``. None if the remote accepted it, else the error."""
        self.attempt += 1
        ref, tag = f"refs/lynx/{self.attempt}", tag_name(entry)
        line = entry.to_line()
        entries = (*snapshot.ledger.entries, entry)
        ledger = Ledger(entries, snapshot.ledger.size + len(line))
        files = {evidence_path(hashlib.sha256(raw).hexdigest()): raw for raw in evidence}
        files[INDEX] = snapshot.raw + line
        self.branch.add(commit_command(ref, snapshot.commit, entry, files))
        self.branch.sign_commit(ref)
        self._add_tag(ref, ledger, signature)
        refs = (f"{ref}:{self.branch.ref}", f"refs/tags/{tag}:refs/tags/{tag}")
        return self.branch.push(snapshot.commit, *refs)

    def check_tag_is_free(self, entry: Entry) -> None:
        """Check that nobody else's tag has the name of the entry's.

        Raises:
            BadInput: there is one. The push would be rejected each time.
        """
        name = tag_name(entry)
        if name in self.tags():
            raise BadInput(
                f"{self.remote}: the tag {name} exists and belongs to no entry, so the entry can't "
                "be added. Something else pushed it: delete it; nothing was changed."
            )

    def restore_tag(self, snapshot: Snapshot, sign: Sign) -> None:
        """Push the last entry's tag again if it is missing, with a new signature.

        Raises:
            SystemFailed: the remote rejected it.
        """
        if snapshot.untagged is None or snapshot.commit is None:
            return
        self._add_tag(snapshot.commit, snapshot.ledger, sign(snapshot.untagged))
        tag = tag_name(snapshot.untagged)
        error = self.branch.push(snapshot.commit, f"refs/tags/{tag}:refs/tags/{tag}")
        if error is not None:
            raise SystemFailed(
                f"{self.remote}: the remote rejected the tag {tag}: {ended(error)} Check the "
                f"remote's rules and hooks{_signing_advice(error)}, then run this again."
            )

    def _add_tag(self, commit: str, ledger: Ledger, signature: bytes | None) -> None:
        self.branch.add(tag_command(commit, ledger, signature or b""))
        self.branch.sign_tag(tag_name(ledger.entries[-1]))

    def _read(self) -> Snapshot:
        return self.fetched(exists=self.branch.fetch())

    def fetched(self, *, exists: bool) -> Snapshot:
        """The state that was fetched last, verified. ``exists`` says whether there is a branch."""
        commits: list[str] = []
        raw = b""
        if exists:
            commits = self.branch.commits()
            found = self.branch.file(INDEX)
            if found is None:
                raise BadInput(
                    f"{self.remote} is not a registry: the branch has no file {INDEX}. Check "
                    "'registry' in pyproject.toml."
                )
            raw = found
        tags = self.tags()
        checkpoints = [tag.checkpoint for tag in tags.values() if tag.checkpoint]
        ledger = parse_ledger(raw, str(self.remote), checkpoints)
        if ledger.torn:
            raise BadInput(
                f"{self.remote}, line {len(ledger.entries) + 1}: incomplete: expected a newline at "
                "its end. Something else pushed there: check the branch's history; nothing was "
                "changed."
            )
        signatures = b"".join(
            tags[it].signature for it in map(tag_name, ledger.entries) if it in tags
        )
        untagged, strays = self._compare(ledger, commits, tags)
        published = self.branch.checkpoints()
        ledger = replace(
            ledger,
            signatures=signatures,
            strays=strays,
            checkpoints=published,
            state=self.branch.local_state(),
        )
        return Snapshot(commits[-1] if commits else None, raw, ledger, untagged)

    def _compare(
        self, ledger: Ledger, commits: list[str], tags: dict[str, Tag]
    ) -> tuple[Entry | None, tuple[str, ...]]:
        """The last entry if its tag is missing, and the commits and tags that belong to no entry.

        Raises:
            BadInput: another entry's tag is missing, or does not point to a commit of its own, in
                order. The tags' checkpoints were compared with the ledger before.
        """
        places = {commit: place for place, commit in enumerate(commits)}
        untagged, used = None, [-1]
        for entry in ledger.entries:
            line = f"{self.remote}, line {entry.seq}"
            if entry.fact.model != self.model:
                raise BadInput(
                    f"{line}: the entry is about the model {entry.fact.model!r}, expected "
                    f"{self.model!r}. A branch contains one model's ledger: give each model its "
                    "own branch."
                )
            name = tag_name(entry)
            tag = tags.pop(name, None)
            place = places.get(tag.commit, -1) if tag else -1
            if tag and tag.checkpoint and tag.checkpoint.seq == entry.seq and place > used[-1]:
                used.append(place)
                continue
            is_last = entry is ledger.entries[-1] and used[-1] < len(commits) - 1
            if not is_last or (tag and tag.checkpoint):
                raise BadInput(
                    f"{line}: its tag {name} is missing or points elsewhere. Push the tag again "
                    "from a clone that has it; nothing was changed."
                )
            untagged = entry
        repaired = [name for name, tag in tags.items() if is_repair(name) and tag.commit in places]
        # What somebody pushed before an administrator repaired the branch is dealt with.
        start = max((places[tags.pop(name).commit] for name in repaired), default=-1) + 1
        added = [it for it in range(start, len(commits)) if it not in set(used)]
        strays = [
            f"the commit {commits[it][:12]} of the branch"
            for it in added[: -1 if untagged else None]
        ]
        strays += [f"the tag {name}" for name, tag in tags.items() if is_ours(name, tag)]
        return untagged, tuple(strays)

    def tags(self) -> dict[str, Tag]:
        """The fetched tags by name. Some may not be the registry's."""
        return {
            name: Tag(target, *read_message(message)) if target else Tag("", None, b"")
            for name, target, message in self.branch.annotated()
        }


def _signing_advice(error: str) -> str:
    if not re.search(r"\bsign|\bGPG\b|\bverified\b", error, re.IGNORECASE):
        return ""
    return (
        ", and if they require signed commits and tags, set commit.gpgSign, tag.gpgSign, "
        "gpg.format and user.signingKey with 'git config --global'"
    )
