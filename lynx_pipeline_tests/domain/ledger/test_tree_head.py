"""The ledger as a Merkle tree, and the checkpoints that witnesses sign."""

import base64
import hashlib
import struct
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.ledger.tree_head import (
    LONGEST_NOTE,
    Cosigned,
    TreeHead,
    note,
    read_body,
    read_note,
    root_hash,
    to_cosign,
    tree_head,
)
from lynx_pipeline.domain.release.witnesses import parse_key
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.builders import chain, promoted
from lynx_pipeline_tests.support.signing import cosign, private_key, witness_key

# A checkpoint of a public log, and the signatures of the log and of a witness, as they published
# it.
PUBLISHED = """\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygN\
I75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTyn\
k5XeU/zZ0WBxtqB0DrAWfBw==
"""
REMORA = parse_key("remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2")
HEAD = TreeHead("lynx-pipeline/tiny", 3, bytes(range(32)))
W1, W2 = witness_key("w1"), witness_key("w2")
TIME = 1_700_000_000
NOTE = cosign(HEAD, "w1", TIME)
# The leaves and roots that implementations of certificate transparency are tested with.
LEAVES = (
    *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
    "606162636465666768696a6b6c6d6e6f",
)
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_other_implementations(size: int) -> None:
    """Of zero to eight leaves."""
    assert root_hash(map(bytes.fromhex, LEAVES[:size])).hex() == ROOTS[size]


def defined(leaves: Sequence[bytes]) -> bytes:
    """The root as RFC 6962 defines it, by recursion."""
    if len(leaves) < 2:
        return hashlib.sha256(b"".join(b"\0" + leaf for leaf in leaves)).digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return hashlib.sha256(b"\1" + defined(leaves[:half]) + defined(leaves[half:])).digest()


@given(st.lists(st.binary(max_size=3), max_size=70))
def test_a_root_is_what_the_rfc_defines(leaves: list[bytes]) -> None:
    """For any leaves."""
    assert root_hash(iter(leaves)) == defined(leaves)


def test_the_leaves_are_the_hashes_of_the_first_entries() -> None:
    """Another entry gives another root."""
    ledger = chain(*(promoted(f"v0.{number}.0-dev") for number in range(1, 6)))
    hashes = [bytes.fromhex(entry.hash) for entry in ledger.entries]
    for size in range(6):
        head = tree_head(ledger, "tiny", size)
        assert head == TreeHead("lynx-pipeline/tiny", size, defined(hashes[:size]))
    assert len({tree_head(ledger, "tiny", size).root for size in range(6)}) == 6


def test_a_checkpoint_is_written_in_one_form() -> None:
    """Its bytes, and the signature as a program would check it that has read the specification."""
    assert (
        "lynx-pipeline/tiny\n"
        "3\n"
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
        "\n"
        "— w1 gDOf/wAAAABlU/EAEsQKjQShHgnZ37oibHyu1p6d6aNpi32Lw+d8QydA1cKC"
        "DYT8esSLemUeacWF5cN33M76FjsJkCyiqwFzxsWoCw==\n"
    ).encode() == NOTE
    assert read_note(NOTE, W1) == Cosigned(HEAD, TIME)
    assert read_body(HEAD.body) == HEAD
    line = NOTE.decode().splitlines()[4]
    key_id, time, signature = struct.unpack(">4sQ64s", base64.b64decode(line.split(" ")[2]))
    assert key_id == hashlib.sha256(b"w1\n\x04" + W1.public).digest()[:4]
    assert time == TIME
    message = f"cosignature/v1\ntime {TIME}\n{HEAD.body}".encode()
    Ed25519PublicKey.from_public_bytes(W1.public).verify(signature, message)


def test_the_cosignature_of_a_public_witness_verifies() -> None:
    """The format is that of others, not only our own."""
    signed = read_note(PUBLISHED.encode(), REMORA)
    assert (signed.head.origin.partition(".")[0], signed.head.size) == ("arche2025h1", 1432088532)
    assert signed.time == 1779573024
    for old, new in (("532", "533"), ("U7WM", "U7WN"), ("arche2025h1", "arche2025h2")):
        body, _, signatures = PUBLISHED.partition("\n\n")
        with pytest.raises(BadInput, match="not by the key of remora"):
            read_note(f"{body.replace(old, new)}\n\n{signatures}".encode(), REMORA)


def test_signatures_of_others_are_ignored() -> None:
    """Also one with the same name and another key. Of two by the same key, the later one counts."""
    line, other = (raw.rpartition(b"\n\n")[2] for raw in (NOTE, cosign(HEAD, "w2", TIME)))
    named = other.replace(b"w2", b"w1")
    later = cosign(HEAD, "w1", TIME + 5).rpartition(b"\n\n")[2]
    body = HEAD.body.encode() + b"\n"
    assert read_note(body + other + named + line + later, W1) == Cosigned(HEAD, TIME + 5)
    assert read_note(body + line + other, W2) == Cosigned(HEAD, TIME)


def broken(old: bytes, new: bytes) -> bytes:
    """The checkpoint with a change."""
    assert NOTE.count(old) >= 1
    return NOTE.replace(old, new, 1)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"", "expected a checkpoint, an empty line", id="empty"),
        pytest.param(b"\xff" + NOTE, "not UTF-8", id="not text"),
        pytest.param(b"\0" * 300, "expected a checkpoint, an empty line", id="zeros"),
        pytest.param(NOTE[:-1], "an empty line and its signatures", id="cut off"),
        pytest.param(NOTE + b"x", "an empty line and its signatures", id="more"),
        pytest.param(NOTE + b"x\n", "is no signature", id="another line"),
        pytest.param(broken(b"\n\n", b"\n"), "an empty line and its signatures", id="one part"),
        pytest.param(broken(b"tiny\n", b"tiny\r\n"), "an empty line and", id="carriage return"),
        pytest.param(HEAD.body.encode() + b"\n", "an empty line and its signatures", id="unsigned"),
        pytest.param(broken(b"\n3\n", b"\n03\n"), "expected a checkpoint: a line", id="zero first"),
        pytest.param(broken(b"\n3\n", b"\n-3\n"), "expected a checkpoint: a line", id="negative"),
        pytest.param(broken(b"\n3\n", b"\n"), "expected a checkpoint: a line", id="no size"),
        pytest.param(broken(b"\n3\n", b"\n%b\n" % (b"9" * 99)), "a checkpoint: a", id="huge size"),
        pytest.param(broken(b"\n3\n", b"\n4\n"), "not by the key of w1", id="another size"),
        pytest.param(broken(b"AAEC", b"AAE!"), "not base64", id="root not base64"),
        pytest.param(broken(b"AAEC", b""), "root hash of 32 bytes", id="short root"),
        pytest.param(broken(b"AAEC", b"AAED"), "not by the key of w1", id="another root"),
        pytest.param(broken(b"/tiny", b"/huge"), "not by the key of w1", id="another origin"),
        pytest.param(broken(b"tiny\n", b"tiny\n\n"), "a checkpoint: a line each", id="empty line"),
        pytest.param(cosign(HEAD, "w2", TIME), "w1 has not signed it", id="another witness"),
        pytest.param(NOTE + b" " * LONGEST_NOTE, "expected at most 65536", id="long"),
    ],
)
def test_anything_else_is_no_checkpoint_of_the_witness(raw: bytes, message: str) -> None:
    """Anybody who can push may have put it there."""
    with pytest.raises(BadInput, match=message):
        read_note(raw, W1)


@given(st.data())
def test_every_changed_byte_shows(data: st.DataObject) -> None:
    """A checkpoint with a change is refused, or says the same."""
    place = data.draw(st.integers(0, len(NOTE) - 1))
    byte = data.draw(st.integers(0, 255))
    changed = NOTE[:place] + bytes([byte]) + NOTE[place + 1 :]
    try:
        found = read_note(changed, W1)
    except BadInput:
        return
    assert found == Cosigned(HEAD, TIME)


def test_a_signature_of_another_length_is_no_cosignature() -> None:
    """As of a log's own signature with this key."""
    blob = base64.b64encode(W1.key_id + bytes(64)).decode()
    with pytest.raises(BadInput, match="is no cosignature"):
        read_note(f"{HEAD.body}\n— w1 {blob}\n".encode(), W1)


def test_further_lines_of_a_checkpoint_are_signed_and_mean_nothing() -> None:
    """The specification allows them."""
    body = f"{HEAD.body}further\n"
    raw = note(body, W1, TIME, private_key("w1").sign(to_cosign(body, TIME)))
    assert read_note(raw, W1) == Cosigned(HEAD, TIME)
    with pytest.raises(BadInput, match="not by the key of w1"):
        read_note(raw.replace(b"further", b"another"), W1)
