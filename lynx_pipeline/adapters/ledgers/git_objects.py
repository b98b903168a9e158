"""What the git store writes and reads: its commits and annotated tags.

A promotion's tag is ``<model>@<semver>``, any other entry's ``<model>@<event>-<seq>``. A tag's
message has the entry's signature, if it has one, and the checkpoint of the ledger at the entry. A
repair of the branch is a commit with the tag ``<model>@repair-<number>``.
"""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from lynx_pipeline.adapters.ledgers.git_branch import SIGNATURE
from lynx_pipeline.domain.ledger.chain import Checkpoint, Entry, Ledger, read_checkpoint
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.errors import BadInput

INDEX = "index.jsonl"
# What follows the model's name in the tags that this store makes.
_OURS = re.compile(
    r"v[0-9]+\.[0-9]+\.[0-9]+(-dev(\.[0-9]+)?)?|(registered|rolled_back|repair)-[0-9]+"
)
AUTHOR = "lynx-pipeline <lynx-pipeline@localhost>"


@dataclass(frozen=True, slots=True)
class Tag:
    """An annotated tag's commit, checkpoint, and the lines of its entry's signatures. A lightweight
    tag, or somebody else's, such as a release's, has no checkpoint."""

    commit: str
    checkpoint: Checkpoint | None
    signature: bytes


def tag_name(entry: Entry) -> str:
    """The name of the entry's tag."""
    fact = entry.fact
    name = fact.semver if isinstance(fact, Promoted) else f"{fact.event}-{entry.seq}"
    return f"{fact.model}@{name}"


def is_ours(name: str, tag: Tag) -> bool:
    """Whether this store makes tags like this one."""
    return tag.checkpoint is not None or _OURS.fullmatch(name.rpartition("@")[2]) is not None


def is_repair(name: str) -> bool:
    """Whether a tag with this name is that of a repair."""
    return re.fullmatch(r"repair-[0-9]+", name.rpartition("@")[2]) is not None


def read_message(message: bytes) -> tuple[Checkpoint | None, bytes]:
    """The checkpoint on the last line of a tag's message, before git's signature if it is signed,
    and the two lines before it, which may be the signatures of the bundle and of the entry."""
    before, _, last = message.partition(SIGNATURE.encode())[0].strip(b"\n").rpartition(b"\n")
    try:
        lines = (it + b"\n" for it in before.split(b"\n")[-2:] if it.startswith(b"{"))
        return read_checkpoint(last, "tag"), b"".join(lines)
    except BadInput:
        return None, b""


def commit_command(ref: str, parent: str | None, entry: Entry, files: Mapping[str, bytes]) -> bytes:
    """The fast-import command for a commit that adds or replaces ``files``."""
    message = f"{_title(entry)}\n\nentry {entry.seq}, hash {entry.hash}\n".encode()
    lines = [f"commit {ref}\ncommitter {_author(entry)}\n".encode(), data(message)]
    if parent is not None:
        lines.append(f"from {parent}\n".encode())
    for path, raw in files.items():
        lines += [f"M 100644 inline {path}\n".encode(), data(raw)]
    return b"".join(lines)


def repair_command(
    ref: str, parents: Iterable[str], index: bytes, evidence: str | None, message: str
) -> bytes:
    """The fast-import command for a repair: a commit of nothing but the ledger and the tree
    ``evidence``."""
    lines = [f"commit {ref}\ncommitter {_now()}\n".encode(), data(message.encode())]
    lines += [
        f"{'merge' if number else 'from'} {parent}\n".encode()
        for number, parent in enumerate(parents)
    ]
    lines.append(b"deleteall\n")
    if evidence is not None:
        lines.append(f"M 040000 {evidence} evidence\n".encode())
    return b"".join((*lines, f"M 100644 inline {INDEX}\n".encode(), data(index)))


def repair_tag_command(name: str, commit: str, message: str) -> bytes:
    """The fast-import command for the annotated tag of a repair."""
    head = f"tag {name}\nfrom {commit}\ntagger {_now()}\n"
    return head.encode() + data(message.encode())


def tag_command(commit: str, ledger: Ledger, signature: bytes) -> bytes:
    """The fast-import command for the annotated tag of the ledger's last entry."""
    entry, checkpoint = ledger.entries[-1], ledger.checkpoint()
    assert checkpoint is not None
    message = f"{_title(entry)}\n\n".encode() + signature + checkpoint.to_line()
    head = f"tag {tag_name(entry)}\nfrom {commit}\ntagger {_author(entry)}\n"
    return head.encode() + data(message)


def _title(entry: Entry) -> str:
    fact = entry.fact
    return f"{fact.event} {fact.model} {fact.semver or fact.canonical_sha[:12]} in {fact.env}"


def _author(entry: Entry) -> str:
    """Author and time, as fast-import expects them."""
    when = datetime.fromisoformat(entry.fact.time)
    return f"{AUTHOR} {int(when.timestamp())} +0000"


def _now() -> str:
    return f"{AUTHOR} {int(time.time())} +0000"


def data(raw: bytes) -> bytes:
    """``raw`` as fast-import expects it, after its length."""
    return b"data %d\n%b\n" % (len(raw), raw)
