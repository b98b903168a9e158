"""Recognizes from its first bytes a file that is not UTF-8 text. Leaves to the readers
what to do about it."""

import shlex
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
_POINTER = b"version https://git-lfs.github.com/spec/"
POINTER = "a pointer of Git LFS, and not the file itself"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: what it is, as a noun phrase, and whether it is text in another encoding."""

    what: str
    is_text: bool = False

    @property
    def sentence(self) -> str:
        """What the bytes are, and what they should be, for the end of a message about a part of a
        file, or about bytes that are in no file."""
        wanted = f" {self.advice('')}" if self.what == POINTER else ""
        wanted = " Save it as UTF-8 without a byte-order mark." if self.is_text else wanted
        return f"it is {self.what}.{wanted}"

    def sentence_for(self, file: str) -> str:
        """What ``file`` is, and how to convert it, for the end of a message."""
        advice = self.advice(file)
        return f"it is {self.what}." + (f" {advice}" if advice else "")

    def advice(self, file: str) -> str:
        """The command that makes UTF-8 text of ``file``, or fetches it; empty if there is none. It
        has no full stop, so that it can be pasted."""
        if self.what == POINTER:
            return "Fetch the file: git lfs pull"
        if not self.is_text:
            return ""
        if self.what.startswith("UTF-8"):
            return f"Remove the mark: sed -i '1s/^\\xEF\\xBB\\xBF//' {quoted(file)}"
        encoding = self.what.partition(" ")[0]
        return f"Convert it: iconv -f {encoding} -t UTF-8 {quoted(file)} > {new_name(file)}"


def quoted(file: str) -> str:
    """The path of a file for a shell."""
    return shlex.quote(f"./{file}" if file.startswith("-") else file)


def new_name(file: str, suffix: str = "") -> str:
    """A path for what ``file`` is converted to, for a shell: beside it, with ``suffix`` in place of
    its own, and another name than its own."""
    folder, slash, name = file.rpartition("/")
    stem, dot, own = name.rpartition(".") if "." in name[1:] else (name, "", "")
    new = f"{stem}{suffix or dot + own}"
    if new == name:
        new = f"{stem}.new{dot}{own}"
    return quoted(f"{folder}{slash}{new}")


def recognise(head: bytes) -> Kind | None:
    """The kind of a file that starts with these bytes; None if it may be UTF-8 text."""
    for magic, what in _TEXTS:
        if head.startswith(magic):
            return Kind(what, is_text=True)
    if head.startswith(_POINTER):
        return Kind(POINTER)
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
