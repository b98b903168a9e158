"""Recognizes from its first bytes a file that is not UTF-8 text. Leaves to the readers
what to do about it."""

from dataclasses import dataclass

# The first bytes, longest first where one is the start of another, and what they mean.
_TEXTS = (
    (b"\xef\xbb\xbf", "UTF-8 with a byte-order mark"),
    (b"\xff\xfe\x00\x00", "UTF-32 text"),
    (b"\x00\x00\xfe\xff", "UTF-32 text"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)
_BINARIES = (
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Office file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"%PDF-", "a PDF file"),
)
_ZIP = b"PK\x03\x04"
# The part of an Office file that comes first in the archive.
_OFFICE = b"[Content_Types].xml"
ARCHIVES = frozenset(
    ("a gzip archive", "a bzip2 archive", "an xz archive", "a Zstandard archive", "a zip archive")
)
PARQUET = "a Parquet file"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: what it is, as a noun phrase, and whether it is text in another encoding."""

    what: str
    is_text: bool = False

    @property
    def sentence(self) -> str:
        """What the file is, and how to convert it, for the end of a message."""
        return f"it is {self.what}." + (f" {self.advice}." if self.advice else "")

    @property
    def advice(self) -> str:
        """How to get UTF-8 text of it; empty if it is not text."""
        if not self.is_text:
            return ""
        if self.what.startswith("UTF-8"):
            return "Remove the mark: sed -i '1s/^\\xEF\\xBB\\xBF//' FILE"
        encoding = self.what.partition(" ")[0]
        return f"Convert it: iconv -f {encoding} -t UTF-8 FILE > NEW_FILE"


def recognise(head: bytes) -> Kind | None:
    """The kind of a file that starts with these bytes; None if it may be UTF-8 text."""
    for magic, what in _TEXTS:
        if head.startswith(magic):
            return Kind(what, is_text=True)
    for magic, what in _BINARIES:
        if head.startswith(magic):
            return Kind(what)
    if head.startswith(_ZIP):
        is_office = _OFFICE in head[:100]
        return Kind("an Excel or other Office file" if is_office else "a zip archive")
    # ASCII characters, of which every second byte is zero.
    if len(head) >= 4 and head[0] and not head[1]:
        return Kind("UTF-16LE text" if head[2] else "UTF-32LE text", is_text=True)
    if len(head) >= 4 and not head[0] and (head[1] or head[3]):
        return Kind("UTF-16BE text" if head[1] else "UTF-32BE text", is_text=True)
    return None
