"""The project's corpus: read line by line, with a real DVC repository, and compared once."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.corpus import CorpusDigests, CorpusFindings
from lynx_pipeline.domain.scorers import EXACT, NUMERIC, Scorer
from lynx_pipeline.errors import BadInput, LynxError, SystemFailed
from lynx_pipeline.evaluation import corpus, inputs
from lynx_pipeline.evaluation.corpus import (
    compare_with_file,
    corpus_findings,
    findings_of,
    read_corpus,
)
from lynx_pipeline.evaluation.inputs import read_eval_file, read_eval_set
from lynx_pipeline.evaluation.storage.large import LargeEvalSet
from lynx_pipeline.evaluation.storage.memory import SmallEvalSet
from lynx_pipeline_tests.support.builders import eval_items, jsonl, md5, project, sha256

LINES = [{"prompt": f"Say word{k}", "buckets": {"half": "ab"[k % 2]}} for k in range(100, 110)]


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is a new process."""
    monkeypatch.setattr(corpus, "_scans", {})


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose corpus was pushed to a DVC remote."""
    root = tmp_path_factory.mktemp("corpus") / "root"
    project(root, pyproject='corpus = "data/corpus.jsonl"\n')
    (root / "data/corpus.jsonl").write_bytes(jsonl(LINES))
    for command in (
        "init --no-scm -q",
        "config core.analytics false",
        "remote add -q -d here remote",
        "add -q data/corpus.jsonl",
        "push -q data/corpus.jsonl.dvc",
    ):
        subprocess.run([sys.executable, "-m", "dvc", *command.split()], cwd=root, check=True)
    return root


@pytest.fixture
def settings(template: Path, tmp_path: Path) -> Settings:
    """A copy of the project that a test may change."""
    shutil.copytree(template, tmp_path / "root", symlinks=True)
    return load_settings(tmp_path / "root", {})


def findings(settings: Settings) -> CorpusFindings:
    """The comparison, as a new process would make it."""
    corpus._scans.clear()
    found = corpus_findings(settings, read_eval_set(settings))
    assert found is not None
    return found


def file_of(settings: Settings) -> Path:
    """The corpus's file."""
    assert settings.corpus is not None
    return settings.corpus


@pytest.mark.slow
def test_a_missing_corpus_is_pulled(settings: Settings) -> None:
    """Its digests are those of its bytes."""
    file_of(settings).unlink()
    shutil.rmtree(settings.root / ".dvc/cache")
    raw = jsonl(LINES)
    assert read_corpus(settings) == CorpusDigests(md5(raw), sha256(raw))
    assert file_of(settings).read_bytes() == raw


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda it: shutil.rmtree(it.root / "remote"),
            SystemFailed,
            r"could not pull it from the remote 'here' \(.*/remote\): its folder does not exist",
        ),
        (
            lambda it: (it.root / "data/corpus.jsonl.dvc").unlink(),
            BadInput,
            r"the data is not under DVC: .*corpus\.jsonl\.dvc",
        ),
        (
            lambda it: file_of(it).write_bytes(jsonl(LINES[1:])),
            BadInput,
            r"corpus\.jsonl: the file was changed: its MD5 is ",
        ),
    ],
    ids=["not on the remote", "not under DVC", "edited"],
)
def test_a_corpus_that_is_not_the_versioned_one_is_an_error(
    settings: Settings,
    change: Callable[[Settings], object],
    error: type[LynxError],
    message: str,
) -> None:
    """Its hash belongs in the evidence."""
    file_of(settings).unlink()
    shutil.rmtree(settings.root / ".dvc/cache")
    change(settings)
    with pytest.raises(error, match=message) as caught:
        read_corpus(settings)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_unchanged_corpus_is_not_read_line_by_line_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In dev the result is stored. A damaged file is replaced by a new one."""
    before = findings(settings)
    (stored,) = (settings.home / "corpus").iterdir()
    with monkeypatch.context() as patch:
        patch.delattr(corpus, "_scan")
        assert findings(settings) == before
    stored.write_bytes(b"{}")
    assert findings(settings) == before
    assert stored.read_bytes() != b"{}"


@pytest.mark.slow
def test_prod_ignores_a_stored_result(settings: Settings) -> None:
    """Anybody who can write to the state folder could have put it there."""
    file_of(settings).write_bytes(jsonl([*LINES, {"prompt": "say WORD3."}]))
    subprocess.run(
        [sys.executable, "-m", "dvc", "add", "-q", "data/corpus.jsonl"],
        cwd=settings.root,
        check=True,
    )
    assert findings(settings).overlap.prompts == 1
    (stored,) = (settings.home / "corpus").iterdir()
    forged = json.loads(stored.read_bytes())
    forged["overlap"].update(prompts=0, examples=[])
    stored.write_text(json.dumps(forged))
    assert findings(settings).separate
    prod = load_settings(settings.root, {"LYNX_ENV": "prod"})
    found = findings(prod)
    assert found.overlap_text == (
        "1 of the 12 questions are in the corpus of 11 lines, 0 of them word for word. 0 are there "
        "together with a right answer (0 word for word). Examples: 'i3' ('Say word3')."
    )
    stored.unlink()
    assert findings(prod) == found
    assert list((settings.home / "corpus").iterdir()) == []


@pytest.mark.slow
def test_another_version_of_the_corpus_is_found_in_dvc(settings: Settings) -> None:
    """An audit compares the eval set with the corpus of that time, in memory."""
    eval_set, old = read_eval_set(settings), jsonl(LINES)
    digests = CorpusDigests(md5(old), sha256(old))
    before = findings_of(settings, eval_set, digests)
    file_of(settings).unlink()
    file_of(settings).write_bytes(jsonl(LINES[1:]))
    assert findings_of(settings, eval_set, digests) == before
    assert before.lines == 10
    with pytest.raises(BadInput, match=r"DVC's copy has the SHA-256 .*, expected 000"):
        findings_of(settings, eval_set, CorpusDigests(md5(old), "0" * 64))
    missing = f"neither DVC's cache nor its remote has the corpus {'0' * 32}"
    with pytest.raises(BadInput, match=missing):
        findings_of(settings, eval_set, CorpusDigests("0" * 32, sha256(old)))


# ----- plain files, as for 'eval-set check --corpus' ------------------------------------------

PROMPTS = ["go", "Go.", "g\u00f6", "go\u0308", "don't", "don\u2019t", "GO !"]
ANSWERS = ["1", "1.0", "1,000", "1000", "2"]


@pytest.mark.parametrize("scorer", [EXACT, NUMERIC], ids=["exact", "numeric"])
@pytest.mark.parametrize("seed", range(3))
def test_a_large_eval_set_gives_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, scorer: Scorer
) -> None:
    """Whether it is in memory or in DuckDB."""
    dice = random.Random(seed)

    def prompt() -> str:
        return dice.choice(PROMPTS) + dice.choice(["", f" {dice.randrange(60)}"])

    questions = [
        {
            "id": f"i'{k}",
            "prompt": prompt(),
            "expected": dice.choice(ANSWERS),
            "accept": dice.sample(ANSWERS, dice.randint(0, 2)),
            "buckets": {"x": dice.choice("ab")},
        }
        for k in range(60)
    ]
    lines = [{"prompt": prompt(), "expected": dice.choice([*ANSWERS, "x"])} for _ in range(150)]
    questions_file, corpus_file = tmp_path / "e", tmp_path / "c"
    questions_file.write_bytes(jsonl(questions))
    corpus_file.write_bytes(jsonl(lines))
    found = []
    for large, kind in ((1 << 20, SmallEvalSet), (1, LargeEvalSet)):
        monkeypatch.setattr(inputs, "LARGE", large)
        eval_set = read_eval_file(questions_file, scorer)
        assert isinstance(eval_set, kind)
        found.append(compare_with_file(eval_set, corpus_file))
    assert found[0] == found[1]
    assert found[0].overlap.exact_pairs > 0


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "c.jsonl: the corpus contains no lines."),
        (b'{"prompt": "a"}\n{"prompt": "b"', "c.jsonl, line 2: not JSON: "),
        (
            b'\xef\xbb\xbf{"prompt": "a"}\n',
            "c.jsonl: expected JSON lines in UTF-8, one object per line, but this is UTF-8 with a ",
        ),
        (b'{"prompt": "a", "prompt": "a"}', "c.jsonl, line 1: duplicate key 'prompt'"),
        (b"PAR1" + b"\x15" * 9 + b"PAR1", "but this is a Parquet file. "),
        (b'{"prompt": "' + b"a" * (6 << 20), "c.jsonl, line 1: has 5242"),
    ],
    ids=["empty", "cut off", "byte-order mark", "duplicate key", "Parquet", "endless line"],
)
def test_a_bad_file_is_refused(tmp_path: Path, raw: bytes, message: str) -> None:
    """In one line that names the file. Of an endless line only a part is read."""
    (tmp_path / "c.jsonl").write_bytes(raw)
    (tmp_path / "e.jsonl").write_bytes(jsonl(eval_items()))
    eval_set = read_eval_file(tmp_path / "e.jsonl", EXACT)
    with pytest.raises(BadInput) as caught:
        compare_with_file(eval_set, tmp_path / "c.jsonl")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    with pytest.raises(BadInput, match="there is no corpus file"):
        compare_with_file(eval_set, tmp_path / "missing")


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
def test_lines_are_split_wherever_a_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    """Blocks of any size give the same lines."""
    lines: list[Any] = [{"prompt": "a" * k} for k in range(1, 9)]
    raw = jsonl(lines).rstrip() + end
    (tmp_path / "c").write_bytes(raw)
    for size in range(1, 40):
        monkeypatch.setattr(corpus, "_BLOCK", size)
        split = list(corpus._lines(tmp_path / "c", sha256(raw)))
        assert [json.loads(line) for line in split if line] == lines


def test_a_corpus_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    """The result would belong to other bytes than the recorded ones."""
    (tmp_path / "c").write_bytes(jsonl(LINES))
    with pytest.raises(BadInput, match="it changed while it was being read"):
        list(corpus._lines(tmp_path / "c", "0" * 64))


@pytest.mark.slow
def test_a_long_corpus_takes_no_more_memory(tmp_path: Path) -> None:
    """It is read line by line. 200,000 lines have 28 MiB."""
    (tmp_path / "eval.jsonl").write_bytes(jsonl(eval_items()))
    few, many = (peak_mib(tmp_path, count) for count in (20_000, 200_000))
    assert many - few < 8


def peak_mib(folder: Path, count: int) -> float:
    """The peak memory of a process that compares the eval set with ``count`` lines."""
    file = folder / f"{count}.jsonl"
    with file.open("w") as lines:
        for k in range(count):
            values = {"prompt": f"Every day number {k} they ___ (go) home." + "x" * 40}
            lines.write(json.dumps({**values, "buckets": {"half": "ab"[k % 2]}}) + "\n")
    output = subprocess.check_output([sys.executable, "-c", _COMPARES, folder / "eval.jsonl", file])
    found, mib = output.split()
    assert int(found) == count
    return float(mib)


_COMPARES = r"""
import re, sys
from pathlib import Path
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.evaluation.corpus import compare_with_file
from lynx_pipeline.evaluation.inputs import read_eval_file
found = compare_with_file(read_eval_file(Path(sys.argv[1]), EXACT), Path(sys.argv[2]))
# Not getrusage: its peak begins with that of the process that started this one.
(kib,) = re.findall(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
print(found.lines, int(kib) / 1024)
"""
