"""Checkpoints that witnesses sign: the ledger as a Merkle tree, in the formats of C2SP.

- Tree: RFC 6962, section 2.1. The leaves are the 32 bytes of the entries' hashes, in order. Each
  covers all that its entry says, and statements name entries by it.
- Checkpoint: https://c2sp.org/tlog-checkpoint: origin, size and root hash, a line each.
- Cosignature: https://c2sp.org/tlog-cosignature, version 1: an Ed25519 signature of a checkpoint
  and the time. It says that this was the largest tree that its witness had seen then.
- Note: https://c2sp.org/signed-note: a checkpoint, an empty line and the signatures' lines.

Which checkpoints count is decided in :mod:`lynx_pipeline.domain.ledger.witnesses`.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from lynx_pipeline.domain.ledger.chain import Ledger
from lynx_pipeline.domain.release.witnesses import WitnessKey
from lynx_pipeline.errors import BadInput

LONGEST_NOTE = 64 << 10  # bytes; ours has 300
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_DASH = "\N{EM DASH} "
_ID_BYTES, _TIME_BYTES, _SIG_BYTES = 4, 8, 64


@dataclass(frozen=True, slots=True)
class TreeHead:
    """The tree of the first ``size`` entries of the ledger that ``origin`` names."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """A checkpoint's three lines."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint that a witness signed at ``time``, in seconds since 1970."""

    head: TreeHead
    time: int


def origin_of(model: str) -> str:
    """The name of a model's ledger. Reader and witness know it from their own settings, and it is
    the same for every URL of the registry."""
    return f"lynx-pipeline/{model}"


def tree_head(ledger: Ledger, model: str, size: int) -> TreeHead:
    """The head of the ledger's first ``size`` entries."""
    hashes = (bytes.fromhex(entry.hash) for entry in islice(ledger.entries, size))
    return TreeHead(origin_of(model), size, root_hash(hashes))


def root_hash(leaves: Iterable[bytes]) -> bytes:
    """The Merkle tree hash of RFC 6962."""
    complete: list[tuple[int, bytes]] = []  # subtrees, each larger than the next one
    for leaf in leaves:
        size, node = 1, _sha256(b"\0" + leaf)
        while complete and complete[-1][0] == size:
            size, node = 2 * size, _sha256(b"\1" + complete.pop()[1] + node)
        complete.append((size, node))
    if not complete:
        return _sha256(b"")
    _, node = complete.pop()
    for _, left in reversed(complete):
        node = _sha256(b"\1" + left + node)
    return node


def to_cosign(body: str, time: int) -> bytes:
    """What a witness signs of a checkpoint with this body."""
    return f"cosignature/v1\ntime {time}\n{body}".encode()


def note(body: str, key: WitnessKey, time: int, signature: bytes) -> bytes:
    """The signed checkpoint, as it is published."""
    blob = key.key_id + time.to_bytes(_TIME_BYTES) + signature
    return f"{body}\n{_DASH}{key.name} {base64.b64encode(blob).decode()}\n".encode()


def read_body(body: str) -> TreeHead:
    """The head in a checkpoint's lines. Further lines mean nothing.

    Raises:
        BadInput: it is not a checkpoint.
    """
    lines = body.split("\n")
    if lines.pop() != "" or len(lines) < 3 or "" in lines or not _SIZE.fullmatch(lines[1]):
        raise BadInput("expected a checkpoint: a line each with the origin, the size and the root")
    root = _decode(lines[2])
    if len(root) != hashlib.sha256().digest_size:
        raise BadInput("expected a root hash of 32 bytes")
    return TreeHead(lines[0], int(lines[1]), root)


def read_note(raw: bytes, key: WitnessKey) -> Cosigned:
    """The checkpoint in ``raw``, its signature by the witness verified.

    Raises:
        BadInput: it is not a checkpoint, or the witness has not signed it.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    body, blobs = _parts(raw, key)
    head, public = read_body(body), Ed25519PublicKey.from_public_bytes(key.public)
    times = []
    for blob in blobs:
        time = int.from_bytes(blob[:_TIME_BYTES])
        try:
            public.verify(blob[_TIME_BYTES:], to_cosign(body, time))
        except InvalidSignature:
            raise BadInput(f"its signature is not by the key of {key.name}") from None
        times.append(time)
    if not times:
        raise BadInput(f"{key.name} has not signed it")
    return Cosigned(head, max(times))


def _parts(raw: bytes, key: WitnessKey) -> tuple[str, list[bytes]]:
    """The text of a signed note, and the signatures that claim to be by ``key``: time and
    signature. Others are ignored."""
    if len(raw) > LONGEST_NOTE:
        raise BadInput(f"it has {len(raw)} bytes, expected at most {LONGEST_NOTE}")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise BadInput("it is not UTF-8 text") from None
    before, empty_line, signatures = text.rpartition("\n\n")
    if not empty_line or not signatures.endswith("\n") or _CONTROL.search(text):
        raise BadInput("expected a checkpoint, an empty line and its signatures")
    return f"{before}\n", list(_blobs(signatures, key))


def _blobs(lines: str, key: WitnessKey) -> Iterator[bytes]:
    for line in lines.removesuffix("\n").split("\n"):
        dash, name, encoded = line[: len(_DASH)], *line[len(_DASH) :].partition(" ")[::2]
        if dash != _DASH or not name or not encoded:
            raise BadInput("a line after its empty line is no signature")
        blob = _decode(encoded)
        if name == key.name and blob[:_ID_BYTES] == key.key_id:
            if len(blob) != _ID_BYTES + _TIME_BYTES + _SIG_BYTES:
                raise BadInput(f"the signature of {key.name} is no cosignature")
            yield blob[_ID_BYTES:]


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("a part of it is not base64") from None


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
