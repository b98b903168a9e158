"""Files of another kind are named as what they are, with a way to convert them that works."""

import bz2
import gzip
import io
import json
import lzma
import re
import shlex
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lynx_pipeline.config import load_settings
from lynx_pipeline.domain.eval_set import parse_eval_set
from lynx_pipeline.domain.file_kinds import new_name, recognise
from lynx_pipeline.domain.gate.baseline import parse_baseline
from lynx_pipeline.domain.ledger.chain import parse_ledger
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.domain.strict_json import parse
from lynx_pipeline.domain.tables import Columns
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.inputs import read_baseline, read_eval_file
from lynx_pipeline.evaluation.storage.large import LARGE
from lynx_pipeline.evaluation.table_import import import_table
from lynx_pipeline_tests.support.builders import eval_items, jsonl
from lynx_pipeline_tests.support.places import git

ITEMS = jsonl([{**item, "prompt": f"{item['prompt']} \u0394"} for item in eval_items(4)])
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")


def pass_(*_: int) -> None:
    """A progress report that nobody reads."""


def parquet() -> bytes:
    """A small Parquet file."""
    file = io.BytesIO()
    pq.write_table(pa.table({"prompt": ["a"]}), file)
    return file.getvalue()


def zipped(*names: str) -> bytes:
    """A zip archive with these empty files. Like Office's, it has no time of its own: one with a
    byte 10 would end the first line before the first name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), "")
    return file.getvalue()


OTHERS = {
    "Parquet": (parquet(), "a Parquet file. Convert it: lynx-pipeline eval-set import"),
    "CSV": (b"prompt,expected\na,b\n", "probably a CSV file. Convert it: lynx-pipeline eval-set"),
    "CSV with semicolons": (b"prompt;expected\na;b\n", "probably a CSV file"),
    "TSV": (b"prompt\texpected\na\tb\n", "probably a CSV file"),
    "gzip": (gzip.compress(ITEMS), "a gzip archive. Unpack it"),
    "bzip2": (bz2.compress(ITEMS), "a bzip2 archive. Unpack it"),
    "xz": (lzma.compress(ITEMS), "an xz archive. Unpack it"),
    "zip": (zipped("a.jsonl"), "a zip archive. Unpack it"),
    "Excel": (zipped("[Content_Types].xml", "xl/workbook.xml"), "an Excel or other Office file"),
    "old Excel": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99),
        "an old Excel.*Export it as CSV",
    ),
    "a JSON array": (json.dumps(eval_items(2)).encode(), "a JSON array. Convert it: jq"),
    "an indented array": (json.dumps(eval_items(2), indent=1).encode(), "a JSON array"),
    "indented objects": (
        json.dumps(eval_items(1)[0], indent=1).encode(),
        "JSON with an object over several",
    ),
}


@pytest.mark.parametrize("size", [0, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_another_encoding_is_named_and_can_be_converted(
    tmp_path: Path, encoding: str, size: int
) -> None:
    """The command in the message, pasted as it is, gives a file that can be read."""
    file, new = tmp_path / "it's e.jsonl", tmp_path / "it's e.new.jsonl"
    text = ITEMS.decode() + " " * size
    file.write_bytes(text.encode(encoding))
    with pytest.raises(BadInput, match=f"^{re.escape(str(file))}: .* this is UTF-") as caught:
        read_eval_file(file, EXACT)
    command = str(caught.value).split("it: " if "-sig" not in encoding else "mark: ")[-1]
    subprocess.run(command, shell=True, check=True)
    result = new if new.exists() else file
    assert result.read_text("utf-8") == text
    assert len(read_eval_file(result, EXACT)) == 4


@pytest.mark.parametrize(("raw", "message"), OTHERS.values(), ids=OTHERS.keys())
def test_another_kind_of_file_is_named(tmp_path: Path, raw: bytes, message: str) -> None:
    """With the way to get JSON lines from it."""
    file = tmp_path / "e.jsonl"
    file.write_bytes(raw)
    with pytest.raises(BadInput, match=f"this is {message}"):
        read_eval_file(file, EXACT)


@pytest.mark.parametrize("name", ["a b.jsonl", "-e.jsonl"])
@pytest.mark.parametrize(
    ("raw", "command"),
    [
        (b"a,b\n", "lynx-pipeline eval-set import {} --prompt COLUMN "),
        (parquet(), "lynx-pipeline eval-set import {} --prompt COLUMN "),
        (b"[{}]", "jq -c '.[]' {} > {}"),
        (b"{\n}", "jq -c . {} > {}"),
    ],
    ids=["CSV", "Parquet", "a JSON array", "indented objects"],
)
def test_the_advice_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes, command: str, name: str
) -> None:
    """So that the command can be pasted. Its result is a new file beside it."""
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(raw)
    with pytest.raises(BadInput) as caught:
        read_eval_file(Path(name), EXACT)
    words = shlex.split(str(caught.value).partition("Convert it: ")[2])
    old, new = [f"{'./' * name.startswith('-')}{it}" for it in (name, f"{name[:-6]}.new.jsonl")]
    assert words[: len(shlex.split(command))] == shlex.split(
        command.format(shlex.quote(old), shlex.quote(new))
    )
    assert words[-1] == new


@pytest.mark.parametrize(
    ("name", "suffix", "new"),
    [
        ("q.csv", ".jsonl", "q.jsonl"),
        ("q.jsonl", ".jsonl", "q.new.jsonl"),
        ("d/q.jsonl", "", "d/q.new.jsonl"),
        ("q", "", "q.new"),
        ("a b.toml", "", "'a b.new.toml'"),
    ],
)
def test_a_new_file_has_a_name_of_its_own(name: str, suffix: str, new: str) -> None:
    """Converting a file into itself would empty it."""
    assert new_name(name, suffix) == new


def test_a_mark_inside_an_eval_set_is_named_with_its_line() -> None:
    """Two files were joined, and the second one starts with a mark."""
    lines = (ITEMS + b"\xef\xbb\xbf" + ITEMS).split(b"\n")
    with pytest.raises(BadInput, match=r"f, line 5: .*a byte-order mark\. Save it as UTF-8"):
        list(parse_eval_set(lines, "f"))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("read", [parse, parse_baseline], ids=["JSON", "baseline"])
def test_other_json_names_the_encoding(read: Callable[[bytes, str], object], encoding: str) -> None:
    """Everything that is strict JSON, also where it is in no file, so that there is no command."""
    with pytest.raises(BadInput, match=r"^f: not JSON in UTF-8: it is UTF-\d+.* Save it as UTF-8"):
        read('{"a": 1}'.encode(encoding), "f")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.mark.parametrize(
    "read",
    [
        read_baseline,
        lambda file: read_eval_file(file, EXACT),
        lambda file: import_table(
            file, Columns("a", "b", ("c",)), file.with_name("o"), EXACT, pass_
        ),
        lambda file: parse(file.read_bytes(), str(file)),
    ],
    ids=["baseline", "eval set", "table", "JSON"],
)
def test_a_pointer_of_git_lfs_is_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    """The checkout was made without Git LFS."""
    file = tmp_path / "file"
    file.write_bytes(POINTER)
    with pytest.raises(BadInput, match=r"a pointer of Git LFS, .*: git lfs pull$"):
        read(file)


def test_an_encoding_that_git_applies_is_not_to_be_converted_by_hand(tmp_path: Path) -> None:
    """The commands in the message bring back the committed bytes."""
    file = tmp_path / "eval_baseline.json"
    file.write_text('{"a": 1}')
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    attributes = tmp_path / ".gitattributes"
    attributes.write_text("*.json text working-tree-encoding=UTF-16\n")
    file.unlink()
    git(tmp_path, "checkout", ".")
    assert file.read_bytes() != b'{"a": 1}'
    with pytest.raises(BadInput, match="git attribute 'working-tree-encoding=UTF-16'") as caught:
        read_baseline(file)
    assert "iconv" not in str(caught.value)
    attributes.unlink()
    file.unlink()
    (command,) = re.findall(r"'(git checkout .*)'", str(caught.value))
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)
    assert file.read_bytes() == b'{"a": 1}'


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_baseline_in_another_encoding_can_be_converted(tmp_path: Path, encoding: str) -> None:
    """With the command in the message."""
    file, new = tmp_path / "eval_baseline.json", tmp_path / "eval_baseline.new.json"
    file.write_bytes('{"a": 1}'.encode(encoding))
    with pytest.raises(BadInput, match=r"not JSON in UTF-8: it is UTF-\d+") as caught:
        read_baseline(file)
    command = str(caught.value).split("it: " if "-sig" not in encoding else "mark: ")[-1]
    subprocess.run(command, shell=True, check=True)
    assert (new if new.exists() else file).read_bytes() == b'{"a": 1}'


def test_a_ledger_with_a_mark_is_refused() -> None:
    """Something other than this software changed it."""
    with pytest.raises(BadInput, match="a byte-order mark"):
        parse_ledger(b'\xef\xbb\xbf{"seq": 0}\n', "f")


def test_settings_with_a_mark_are_named(tmp_path: Path) -> None:
    """``pyproject.toml`` comes from the same editors."""
    (tmp_path / "pyproject.toml").write_bytes(b'\xef\xbb\xbf[tool.lynx_pipeline]\nmodel = "m"\n')
    with pytest.raises(
        BadInput, match="not TOML in UTF-8: it is UTF-8 with a byte-order mark"
    ) as caught:
        load_settings(tmp_path, {})
    subprocess.run(str(caught.value).partition("mark: ")[2], shell=True, check=True)
    assert (tmp_path / "pyproject.toml").read_bytes().startswith(b"[tool")


@pytest.mark.parametrize("head", [b"", b"{", b"{}", b'{"a": 1}', "\u00e9".encode(), b"\x00\x00"])
def test_text_is_not_mistaken_for_another_kind(head: bytes) -> None:
    """Short files, too."""
    assert recognise(head) is None
