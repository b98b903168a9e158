"""Repairs a ledger on a git branch: its file, and the tags of its entries.

A repair is an ordinary commit on top of the branch, which has the best ledger and nothing else but
its evidence, and a tag that says so. Tags that belong to no entry are deleted, and missing ones are
made again. Everything goes up in one ``git push --atomic`` that names the branch and the tags as
they were read. Nothing is forced: the history shows what was there before, and the messages of the
commit and its tag name each change.

Readers don't report any more what somebody pushed to the branch before the newest repair. Its tag
makes that so, and not the commit: rules on the hosting side protect tags.

Intact lines are looked for in the commits of tags, in commits that belong to no entry and, if
something is still missing, in all others. If the branch was wound back, the commits of the tags
come back into its history as further parents.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

from lynx_pipeline.adapters.git import ended
from lynx_pipeline.adapters.ledgers.git import Clone, GitLedger
from lynx_pipeline.adapters.ledgers.git_branch import NO_FILTER
from lynx_pipeline.adapters.ledgers.git_objects import (
    INDEX,
    Tag,
    is_ours,
    is_repair,
    repair_command,
    repair_tag_command,
    tag_command,
    tag_name,
)
from lynx_pipeline.adapters.ledgers.repair import Repair
from lynx_pipeline.domain.ledger.chain import Entry, Ledger
from lynx_pipeline.domain.ledger.model_signature import model_line, model_signatures
from lynx_pipeline.domain.ledger.repair import (
    Best,
    Pool,
    Trust,
    best_ledger,
    changed_lines,
    describe,
    remaining,
)
from lynx_pipeline.domain.ledger.signatures import NOT_SIGNED, counting_signature, unsigned_entries
from lynx_pipeline.domain.text import number_of
from lynx_pipeline.errors import BadInput, Refused, SystemFailed

_NEW = "refs/lynx/repair"
_NO_TAG = (
    f"{NOT_SIGNED}, because its tag is missing. If a clone has the tag, push it again instead; "
    "otherwise promote again after the repair"
)


@contextmanager
def planned(store: GitLedger, trust: Trust) -> Iterator[Repair]:
    """What a repair would change. It can be applied within the block.

    Raises:
        Refused: it would lose an entry, or git redirects to another remote than the pinned one.
        BadInput: the branch is not a registry, no ledger extends what this reader remembers, or the
            policy is invalid.
        SystemFailed: git or the remote failed.
    """
    with store.clone() as clone:
        clone.branch.filter = NO_FILTER
        yield _Planner(clone, trust, exists=clone.branch.fetch()).plan()


@dataclass(slots=True)
class _Tags:
    """What happens to the tags: the entry's commit for each that is made again, with its signature,
    and the names of those that are deleted. ``homes`` are the commits of all entries."""

    made: dict[str, tuple[str, Ledger, bytes]]
    deleted: list[str]
    homes: list[str]


class _Planner:
    """A repair of what was fetched into a clone."""

    def __init__(self, clone: Clone, trust: Trust, *, exists: bool) -> None:
        self.clone = clone
        self.trust = trust
        self.branch = clone.branch
        self.commits = self.branch.commits() if exists else []
        self.head = self.commits[-1] if exists else None
        self.tags = clone.tags()
        self.raw = self.index(self.head) if self.head else None
        self.signatures = b"".join(tag.signature for tag in self.tags.values())
        repaired = {tag.commit for name, tag in self.tags.items() if is_repair(name)}
        places = [place for place, commit in enumerate(self.commits) if commit in repaired]
        self.recent = self.commits[max(places, default=-1) + 1 :]

    def plan(self) -> Repair:
        """See :func:`planned`."""
        recorded = {t.checkpoint.hash: n for n, t in self.tags.items() if t.checkpoint}
        if self.head is None and not recorded:
            return Repair((), (), lambda: None)
        self._check_is_registry()
        pool = self._pool({*recorded, *filter(None, [self.trust.remembered])})
        records = {it: f"the tag {n}" for it, n in recorded.items() if it in pool.lines}
        if not pool.lines and not pool.foreign and self.raw == b"":
            best = Best((), {}, ())
        else:
            best = best_ledger(pool, self.signatures, records, self.trust, orphans=True)
        for line in pool.lines.values():
            hashed = line.entry.hash
            if best.reasons.get(hashed) == NOT_SIGNED and tag_name(line.entry) not in self.tags:
                best.reasons[hashed] = _NO_TAG
        best = self._without_additions(best)
        parents = self._parents(best)
        tags = self._plan_tags(best, parents)
        changes = [
            *([] if self.raw == best.raw else changed_lines(self.raw or b"", best)),
            *self._commit_changes(tags, parents),
            *self._tag_changes(best, tags),
        ]
        notes = remaining(best, self.signatures, self.trust)
        if not changes:
            return Repair((), notes, lambda: None)
        return self._prepared(best, parents, tags, changes, notes)

    def _check_is_registry(self) -> None:
        if self.head and not self.branch.git("rev-list", "-1", self.branch.ref, "--", INDEX):
            raise BadInput(
                f"{self.clone.remote} is not a registry: the branch never had a file {INDEX}. "
                "Check 'registry' in pyproject.toml. If somebody has replaced the branch, delete "
                "it, then run this again: it restores the branch from the tags."
            )

    # ----- what is there ----------------------------------------------------------------------

    def index(self, commit: str) -> bytes | None:
        """The ledger's file in a commit; None if there is no such file."""
        listed = self.branch.git("ls-tree", commit, "--", INDEX).split()
        if not listed or listed[0] != b"100644":
            return None
        return self.branch.git("cat-file", "blob", listed[2].decode())

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """How long the ledger's file is in every commit that was fetched."""
        all_commits = self.branch.git("rev-list", "--all").decode().split()
        asked = "".join(f"{commit}:{INDEX}\n" for commit in all_commits)
        form = "--batch-check=%(objecttype) %(objectsize)"
        found = self.branch.git("cat-file", form, stdin=asked.encode()).decode().splitlines()
        pairs = zip(all_commits, (line.split(" ") for line in found), strict=True)
        return {commit: int(size) for commit, (kind, size) in pairs if kind == "blob"}

    def _pool(self, needed: set[str]) -> Pool:
        """The lines that verify, until the ``needed`` entries are there, or none are left."""
        pool = Pool(self.clone.model)
        for raw in (self.raw or b"", self.trust.line):
            pool.add(raw)
        tagged = {t.commit: t.checkpoint.seq for t in self.tags.values() if t.checkpoint}
        for commit in self.recent:
            if commit not in tagged and commit != self.head:
                pool.add(self.index(commit) or b"")
        newest = [it for it in sorted(tagged, key=lambda it: -tagged[it]) if it in self.sizes]
        for commit in (*newest, *(it for it in self.sizes if it not in tagged)):
            if needed <= pool.lines.keys():
                break
            pool.add(self.index(commit) or b"")
        return pool

    # ----- what is to be ----------------------------------------------------------------------

    def _without_additions(self, best: Best) -> Best:
        """Without entries at the end that have neither a tag nor a commit of their own, and those
        that are chained to them. This store did not make them."""
        known, ends = 0, list(accumulate(len(line.raw) for line in best.lines))
        recorded = {tag.checkpoint.hash for tag in self.tags.values() if tag.checkpoint}
        for number, line in enumerate(best.lines, start=1):
            if line.entry.hash in recorded or line.entry.hash == self.trust.remembered:
                known = number
        own = {self.sizes.get(commit) for commit in self.commits}
        added = (it for it in range(known, len(ends)) if ends[it] not in own)
        first = next(added, len(ends)) if known else len(ends)
        why = "it has neither a tag nor a commit of its own, so this software did not add it"
        reasons = {line.entry.hash: why for line in best.lines[first:]}
        return replace(best, lines=best.lines[:first], reasons={**best.reasons, **reasons})

    def _parents(self, best: Best) -> list[str]:
        """The parents of the repair: the branch, and the commits of tags that were taken off it."""
        ends = accumulate(len(line.raw) for line in best.lines)
        tags = [self.tags.get(tag_name(line.entry)) for line in best.lines]
        homes = {
            tag.commit for tag, end in zip(tags, ends, strict=True) if tag and self._is_at(tag, end)
        }
        others = sorted(homes - set(self.commits))
        found = [*([self.head] if self.head else []), *others]
        if len(found) < 2:
            return found
        kept = self.branch.git("merge-base", "--independent", *found).decode().split()
        return [it for it in found if it in kept]

    def _is_at(self, tag: Tag, end: int) -> bool:
        """Whether the tag points to a commit whose ledger has this size, as its checkpoint says."""
        return tag.checkpoint is not None and tag.checkpoint.size == end == self.sizes.get(
            tag.commit
        )

    def _plan_tags(self, best: Best, parents: list[str]) -> _Tags:
        """Which tags are made again, and which are deleted."""
        order: list[str] = []
        if parents:
            listed = self.branch.git("rev-list", "--topo-order", "--reverse", *parents)
            order = listed.decode().split()
        order.append(_NEW)
        sizes = {**self.sizes, _NEW: len(best.raw)}
        places = {commit: place for place, commit in enumerate(order)}
        plan, names, last, end = _Tags({}, [], []), set(), -1, 0
        for number, (entry, raw) in enumerate(best.lines, start=1):
            end += len(raw)
            name = tag_name(entry)
            if name in names:
                raise Refused(f"{describe(entry)}: an earlier entry has the same tag, {name}.")
            names.add(name)
            tag = self.tags.get(name)
            place = places.get(tag.commit, -1) if tag else -1
            is_right = tag and tag.checkpoint and tag.checkpoint.hash == entry.hash
            if not (tag and is_right and self._is_at(tag, end) and place > last):
                homes = (it for it in order[last + 1 :] if sizes.get(it) == end)
                place = places.get(next(homes, ""), -1)
                if place < 0:
                    raise Refused(
                        f"the tag {name} of {describe(entry)} is missing or points elsewhere, and "
                        "no commit of the branch is this entry's own. Push the tag again from a "
                        "clone that has it."
                    )
                until = Ledger(tuple(it.entry for it in best.lines[:number]), end)
                plan.made[name] = (order[place], until, self._signature(entry, best))
            plan.homes.append(order[place])
            last = place
        plan.deleted = [
            name
            for name, tag in self.tags.items()
            if name not in names
            and is_ours(name, tag)
            and not (is_repair(name) and tag.commit in places)
        ]
        return plan

    def _signature(self, entry: Entry, best: Best) -> bytes:
        """The signatures for a tag that is made again: of the entry and, before it, its bundle.

        Raises:
            Refused: the entry needs one, and it is missing.
        """
        ledger = replace(best.ledger, signatures=self.signatures)
        envelope = counting_signature(ledger, self.trust.policy, entry)
        if envelope is not None:
            of_bundle = model_signatures(self.signatures, entry.hash)
            lines = dict.fromkeys(model_line(entry.hash, it) for it in of_bundle)
            return b"".join([*list(lines)[:1], envelope.to_line()])
        if reason := unsigned_entries(ledger, self.trust.policy).get(entry.hash):
            raise Refused(
                f"the tag {tag_name(entry)} of {describe(entry)} is missing or points elsewhere, "
                f"and without it the entry would be ignored: {reason}. Push the tag again from a "
                "clone that has it."
            )
        return b""

    def _commit_changes(self, tags: _Tags, parents: list[str]) -> list[str]:
        changes = []
        if self.head and self.raw is None:
            changes.append(f"restore the file {INDEX} on the branch")
        if self.head is None:
            changes.append("restore the branch")
        for parent in parents:
            if parent != self.head:
                changes.append(f"take the commits up to {parent[:12]} back into the branch")
        homes = set(tags.homes)
        changes += [
            f"mark the commit {commit[:12]} of the branch as dealt with: it adds no entry of the "
            "ledger"
            for commit in self.recent
            if commit not in homes
        ]
        changes += [f"remove the file {name} from the branch" for name in self._stray_files()]
        return changes

    def _stray_files(self) -> list[str]:
        if self.head is None:
            return []
        listed = self.branch.git("ls-tree", "-z", "--name-only", self.head).split(b"\0")
        names = [name.decode(errors="backslashreplace") for name in listed if name]
        return [name for name in names if name not in (INDEX, "evidence")]

    def _tag_changes(self, best: Best, tags: _Tags) -> list[str]:
        recorded = {line.entry.hash for line in best.lines}
        changes = []
        for name in tags.made:
            verb = "replace" if name in self.tags else "make"
            changes.append(f"{verb} the tag {name} of {describe(tags.made[name][1].entries[-1])}")
        for name in tags.deleted:
            known = self.tags[name].checkpoint
            why = (
                "it belongs to no entry"
                if known is None or known.hash in recorded or known.hash not in best.reasons
                else f"its entry {known.seq} is removed"
            )
            changes.append(f"delete the tag {name}: {why}")
        return changes

    # ----- changing it ------------------------------------------------------------------------

    def _prepared(
        self,
        best: Best,
        parents: list[str],
        tags: _Tags,
        changes: list[str],
        notes: tuple[str, ...],
    ) -> Repair:
        """The repair, made in the clone and verified there as a reader would."""
        ids = self._tag_ids()
        numbers = [int(it.rpartition("-")[2]) for it in self.tags if is_repair(it)]
        name = f"{self.clone.model}@repair-{max(numbers, default=0) + 1}"
        title = f"repair the registry of {self.clone.model}\n\n"
        message = title + "".join(f"{line}\n" for line in (*changes, *self._old_signatures(tags)))
        self.branch.add(repair_command(_NEW, parents, best.raw, self._evidence(tags), message))
        self.branch.sign_commit(_NEW)
        commit = self.branch.git("rev-parse", _NEW).decode().strip()
        for tag in (*tags.deleted, *tags.made):
            self.branch.git("update-ref", "-d", f"refs/tags/{tag}")
        for tag, (home, ledger, signature) in tags.made.items():
            self.branch.add(tag_command(commit if home == _NEW else home, ledger, signature))
            self.branch.sign_tag(tag)
        self.branch.add(repair_tag_command(name, commit, message))
        self.branch.sign_tag(name)
        self.branch.git("update-ref", self.branch.ref, commit)
        self._check(best)

        refs = [f"{self.branch.ref}:{self.branch.ref}"]
        refs += [f"refs/tags/{tag}:refs/tags/{tag}" for tag in (*tags.made, name)]
        refs += [f":refs/tags/{tag}" for tag in tags.deleted]
        leases = {f"refs/tags/{it}": ids.get(it) for it in (*tags.made, *tags.deleted, name)}

        def apply() -> None:
            error = self.branch.push(self.head, *refs, tags=leases)
            if error is not None:
                raise SystemFailed(
                    f"{self.clone.remote}: the remote rejected the repair: {ended(error)} The "
                    "registry did not change as far as we can see. If somebody pushed meanwhile, "
                    "run this again. Otherwise check the remote's rules and hooks: a repair may "
                    "delete and replace tags."
                )

        return Repair((*changes, f"add a commit with the tag {name}"), notes, apply)

    def _tag_ids(self) -> Mapping[str, str]:
        form = "--format=%(objectname) %(refname:lstrip=2)"
        listed = self.branch.git("for-each-ref", form, *self.branch.tags)
        pairs = (line.split(" ", 1) for line in listed.decode().splitlines())
        return {name: hashed for hashed, name in pairs}

    def _old_signatures(self, tags: _Tags) -> Iterable[str]:
        """The signatures in the tags that go, so that they are not lost."""
        for name in (*tags.deleted, *tags.made):
            tag = self.tags.get(name)
            for line in tag.signature.splitlines() if tag else ():
                yield f"{name}: {line.decode(errors='replace')}"

    def _evidence(self, tags: _Tags) -> str | None:
        """The tree of the evidence, as the last entry's commit has it."""
        homes = [it for it in tags.homes[-1:] if it != _NEW]
        for commit in (*homes, *([self.head] if self.head else [])):
            listed = self.branch.git("ls-tree", commit, "--", "evidence").split()
            if listed and listed[1] == b"tree":
                return listed[2].decode()
        return None

    def _check(self, best: Best) -> None:
        """Check that a reader finds the repaired ledger, and nothing else.

        Raises:
            Refused: it would not.
        """
        try:
            found = self.clone.fetched(exists=True)
        except BadInput as error:
            raise Refused(f"no repair was found that verifies: {error}") from None
        if found.ledger.entries != best.ledger.entries or found.untagged or found.ledger.strays:
            strays = number_of(len(found.ledger.strays), "stray")
            raise Refused(f"{self.clone.remote}: no repair was found that verifies: {strays} left.")
