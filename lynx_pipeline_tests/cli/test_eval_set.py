"""``eval-set import`` and ``eval-set check``."""

import json
import shlex
from pathlib import Path

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline.config import Settings
from lynx_pipeline_tests.cli.helpers import Capsys, one_paragraph
from lynx_pipeline_tests.support.builders import eval_items, jsonl

CSV = "question,answer,question type,note\nSay a,a,easy,x\nSay b,b,hard,y\n"
IMPORT = (
    *("eval-set", "import", "t.csv", "--prompt", "question", "--expected", "answer"),
    *("--bucket", "question type", "--output", "new/out.jsonl"),
)


@pytest.fixture(autouse=True)
def table(folder: Path) -> Path:
    """A CSV file in the working directory."""
    (folder / "t.csv").write_text(CSV)
    return folder / "t.csv"


def test_a_table_is_imported_and_then_checked(capsys: Capsys) -> None:
    """Outside a project, too. What was not imported is named."""
    assert main(IMPORT) == 0
    out = capsys.readouterr().out
    assert "Wrote 2 items in 2 buckets to new/out.jsonl." in out
    assert "Columns that were not used: 'note'." in out
    assert main(["eval-set", "check", "new/out.jsonl", "--tolerance", "0.9"]) == 0
    assert main(["eval-set", "check", "new/out.jsonl"]) == 0
    assert "small_bucket (2): " in capsys.readouterr().out
    assert main([*IMPORT, "--overwrite", "--json", "--progress"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "output": "new/out.jsonl", "items": 2, "unused_columns": ["note"],
        "buckets": ["question type.easy", "question type.hard"],
    }  # fmt: skip
    assert f"{len(CSV)} of {len(CSV)} bytes read" in err


def test_the_command_that_checks_an_import_can_be_pasted(capsys: Capsys) -> None:
    """Also if the path contains a space."""
    assert main([*IMPORT[:-1], "my out.jsonl"]) == 0
    command = capsys.readouterr().out.partition("Check it: ")[2]
    assert main(shlex.split(command)[1:]) == 0


def test_a_file_is_not_overwritten_unless_asked(capsys: Capsys, table: Path) -> None:
    """And the table itself never is."""
    assert main(IMPORT) == 0
    capsys.readouterr()
    before = Path("new/out.jsonl").read_bytes()
    assert main(IMPORT) == 2
    assert "new/out.jsonl exists" in one_paragraph(capsys)
    assert main([*IMPORT[:-1], "t.csv", "--overwrite"]) == 2
    assert "is the table itself" in one_paragraph(capsys)
    table.write_text(CSV + "Say c,,hard,z\n")
    assert main([*IMPORT, "--overwrite"]) == 2
    assert "line 4: the column 'answer' is empty" in one_paragraph(capsys)
    assert Path("new/out.jsonl").read_bytes() == before
    assert len(list(Path("new").iterdir())) == 1


def test_a_missing_table_is_bad_input(capsys: Capsys) -> None:
    """No output folder is created."""
    assert main([*IMPORT[:2], "none.csv", *IMPORT[3:]]) == 2
    assert "there is no file none.csv to import" in one_paragraph(capsys)
    assert not Path("new").exists()


def test_check_takes_the_projects_eval_set_and_tolerance(
    promoted: Settings, capsys: Capsys
) -> None:
    """Also after an edit, which DVC does not know yet."""
    assert main(["eval-set", "check"]) == 0
    assert "small_bucket (3): " in capsys.readouterr().out
    raw = jsonl([*eval_items(), eval_items(1)[0]])  # of one item, the first half is empty
    promoted.eval_set.write_bytes(raw)
    assert main(["eval-set", "check", "--json", "--tolerance", "0.5"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["items"] == 13
    assert found["tolerance"] == 0.5
    assert found["buckets"] == {"all.x": 13, "half.a": 6, "half.b": 7}
    assert [(it["severity"], it["kind"]) for it in found["findings"]] == [
        ("error", "duplicate_id"), ("warning", "duplicate_question"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(None, "there is no eval set e.jsonl", id="missing"),
        pytest.param(CSV.encode(), "probably a CSV file. Convert it", id="CSV"),
        pytest.param(b"\xef\xbb\xbf{}", "a byte-order mark", id="mark"),
    ],
)
def test_a_file_that_is_no_eval_set_is_bad_input(
    capsys: Capsys, raw: bytes | None, message: str
) -> None:
    """There is nothing to list."""
    if raw is not None:
        Path("e.jsonl").write_bytes(raw)
    assert main(["eval-set", "check", "e.jsonl"]) == 2
    assert message in one_paragraph(capsys)


def test_without_a_project_check_needs_a_file(capsys: Capsys) -> None:
    """The message says where to run it."""
    assert main(["eval-set", "check"]) == 2
    assert "no project here" in one_paragraph(capsys)


def test_a_line_of_any_length_is_one_malformed_line(capsys: Capsys, folder: Path) -> None:
    """It is not read into memory whole, and the lines after it are checked."""
    item = jsonl(eval_items(1))
    (folder / "e.jsonl").write_bytes(item + b'{"x": "' + b"x" * (9 << 20) + b'"}\n' + item)
    assert main(["eval-set", "check", "e.jsonl"]) == 2
    out = capsys.readouterr().out
    assert "malformed_line (1): more than 4194304 bytes (line 2)" in out
    assert "duplicate_id (1): items have the id of an earlier item (lines 1, 3)" in out


def test_an_eval_set_is_compared_with_a_corpus(capsys: Capsys) -> None:
    """A question that is in the corpus, and other shares of a dimension, are warnings."""
    assert main(IMPORT) == 0
    rare = '{"prompt": "other", "buckets": {"question type": "hard"}}\n'
    Path("corpus.jsonl").write_text('{"prompt": "SAY A."}\n' + rare * 20)
    capsys.readouterr()
    arguments = ["eval-set", "check", "new/out.jsonl", "--corpus"]
    assert main([*arguments, "corpus.jsonl", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [(it["severity"], it["kind"], it["count"]) for it in findings] == [
        ("warning", "small_bucket", 2),
        ("warning", "in_corpus", 1),
        ("warning", "other_shares_than_corpus", 1),
    ]
    assert main([*arguments, "missing.jsonl"]) == 2
    assert "there is no corpus file missing.jsonl" in one_paragraph(capsys)
