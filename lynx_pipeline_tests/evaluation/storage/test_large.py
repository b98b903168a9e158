"""Large eval sets give the same results as small ones."""

import io
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lynx_pipeline.domain.candidate_eval import score
from lynx_pipeline.domain.eval_set import EvalSet, Item, bucket_sizes, parse_eval_set
from lynx_pipeline.domain.gate.comparison import compare
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline.evaluation.storage import StoredEvalSet, database
from lynx_pipeline.evaluation.storage.large import LargeEvalSet, build
from lynx_pipeline.evaluation.storage.memory import SmallEvalSet
from lynx_pipeline.evaluation.storage.pages import same_ids
from lynx_pipeline.evaluation.storage.parquet import predictions_bytes, read_predictions
from lynx_pipeline.sandbox.engine import Answered

ODD = [
    "went",
    "Went.",
    " he\u2019d  gone ",
    "stra\u00dfe",
    "\u0130x",
    "e\u0301t\u00e9",
    "a\x00b",
    "'",
    '"',
    "日本",
]
N = 500


def lines(count: int = N, seed: int = 1) -> list[bytes]:
    """Items with odd answers, in combinations of buckets."""
    dice = random.Random(seed)
    raw = []
    for number in range(count):
        item = {
            "id": f"i'{number}",
            "prompt": f"Say  {dice.choice(ODD)} {number}",
            "expected": dice.choice(ODD),
            "accept": dice.sample(ODD, dice.randint(0, 2)),
            "buckets": {"d": dice.choice("abc"), "язык 'e\"": dice.choice(("x", "y | z; --"))},
        }
        raw.append(json.dumps(item).encode())
    return raw


def small(raw: list[bytes]) -> SmallEvalSet:
    """The eval set in memory."""
    return SmallEvalSet(tuple(parse_eval_set(raw, "f")), "md5", "sha")


def large(raw: list[bytes]) -> LargeEvalSet:
    """The eval set on disk."""
    return build(raw, "f", "md5", "sha", EXACT, None)


def answers(eval_set: EvalSet, seed: int) -> list[str | None]:
    """Right answers, right answers in a different spelling, wrong ones, and null."""
    dice = random.Random(seed)
    kinds: list[Callable[[Item], str | None]] = [
        lambda item: item.answers[0],
        lambda item: f" {item.answers[-1].upper()}. ",
        lambda item: dice.choice(ODD),
        lambda item: "",
        lambda item: None,
    ]
    return [dice.choice(kinds)(item) for item in eval_set.items]


def encoded(eval_set: EvalSet, texts: list[str | None]) -> bytes:
    """The predictions file with these answers."""
    return predictions_bytes([item.id for item in eval_set.items], texts)


@pytest.mark.parametrize("seed", range(8))
def test_large_and_small_give_the_same_counts_and_flips(seed: int) -> None:
    """Both equal the results of the rules in ``domain``, including the order of flips."""
    raw = lines(seed=seed)
    in_memory, on_disk = small(raw), large(raw)
    assert len(on_disk) == len(in_memory) == N
    assert on_disk.cells() == in_memory.cells()
    assert bucket_sizes(on_disk) == bucket_sizes(in_memory)
    words = sum(len(item.prompt.split()) for item in in_memory.items)
    assert on_disk.prompt_words == in_memory.prompt_words == words
    first, second = answers(in_memory, seed), answers(in_memory, seed + 99)
    ids = [item.id for item in in_memory.items]
    counts = score(in_memory, zip(ids, first, strict=True))
    flips = compare(
        in_memory, dict(zip(ids, first, strict=True)), dict(zip(ids, second, strict=True))
    )
    assert flips.lost
    files = encoded(in_memory, first), encoded(in_memory, second)
    prompts = [item.prompt for item in in_memory.items]
    for eval_set in (in_memory, on_disk):
        assert eval_set.count(files[0], "p") == counts
        assert eval_set.compare(*files) == flips
        assert [*eval_set.with_predictions(files[0])] == [*zip(ids, prompts, first, strict=True)]


def test_items_with_inputs_are_the_same_in_both(tmp_path: Path) -> None:
    """Also in a file that was converted before."""
    raw = []
    for line in lines(count=20):
        item = json.loads(line)
        item["inputs"] = {"question": item.pop("prompt"), "context": "'"}
        raw.append(json.dumps(item).encode())
    in_memory, cache = small(raw), tmp_path / "items.parquet"
    for _ in range(2):
        on_disk = build(raw, "f", "md5", "sha", EXACT, cache)
        assert on_disk.inputs == in_memory.inputs == ("question", "context")
        assert sorted(on_disk.shuffled("a")) == sorted(in_memory.shuffled("a"))
        right, wrong = answers(in_memory, 1), [None] * 20
        files = encoded(in_memory, right), encoded(in_memory, list(wrong))
        assert on_disk.compare(*files) == in_memory.compare(*files)
    assert large(lines(count=5)).inputs == ()


def test_the_seed_decides_the_order_of_prompts() -> None:
    """Every prompt comes once, with its row."""
    raw = lines()
    prompts = [item.prompt for item in small(raw).items]
    eval_set = large(raw)
    orders = [list(eval_set.shuffled(seed)) for seed in ("a", "a", "b")]
    for order in orders:
        assert sorted(order) == list(enumerate(prompts))
        assert order != sorted(order)
    assert orders[0] == orders[1] != orders[2]


def batches(texts: list[str | None], size: int, seed: int) -> Iterator[Answered]:
    """The answers in batches, in any order."""
    rows = list(range(len(texts)))
    random.Random(seed).shuffle(rows)
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        yield Answered(chunk, [texts[row] for row in chunk], len(chunk) / 4, 0.5, 1.0, "none")


@pytest.mark.parametrize("store", [small, large])
def test_answers_are_written_in_the_eval_sets_order(
    tmp_path: Path, store: Callable[[list[bytes]], StoredEvalSet]
) -> None:
    """The bytes don't depend on the batches or on their order."""
    raw = lines()
    items = small(raw).items
    eval_set = store(raw)
    texts, ids = answers(small(raw), 5), [item.id for item in items]
    contents = set()
    for size, seed in ((1, 1), (64, 2), (N, 3)):
        files = tmp_path / f"p{size}", tmp_path / f"t{size}"
        eval_set.write_answers(batches(texts, size, seed), *files)
        contents.add(tuple(file.read_bytes() for file in files))
    ((predictions, timings),) = contents
    assert read_predictions(predictions, "p", N) == list(zip(ids, texts, strict=True))
    times = pq.read_table(io.BytesIO(timings))
    assert times.to_pydict() == {"id": ids, "seconds": [0.25] * N}


def test_answers_are_written_in_row_groups_of_equal_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the bytes would depend on more than the rows."""
    monkeypatch.setattr(database, "ROWS", 64)
    raw = lines()
    eval_set, texts = large(raw), answers(small(raw), 5)
    contents = set()
    for size in (1, 100, N):
        eval_set.write_answers(batches(texts, size, 1), tmp_path / "p", tmp_path / "t")
        contents.add((tmp_path / "p").read_bytes())
    assert len(contents) == 1
    assert eval_set.count(contents.pop(), "p").n == N


Rows = list[tuple[str | None, str]]
WRONG: dict[str, Callable[[Rows], Rows]] = {
    "one row missing": lambda rows: rows[:-1],
    "one extra row": lambda rows: [*rows, ("x", "went")],
    "the last row twice": lambda rows: [*rows, rows[-1]],
    "two rows swapped": lambda rows: [rows[1], rows[0], *rows[2:]],
    "one id twice": lambda rows: [rows[0], rows[0], *rows[2:]],
    "an unknown id": lambda rows: [("x", "went"), *rows[1:]],
    "a row without an id": lambda rows: [(None, "went"), *rows[1:]],
    "no rows": lambda rows: [],
}


@pytest.mark.parametrize("kind", WRONG)
def test_rows_that_do_not_match_the_items_are_refused(kind: str) -> None:
    """The denominator never gets smaller."""
    raw = lines()
    rows = WRONG[kind]([(item.id, "went") for item in small(raw).items])
    file = io.BytesIO()
    columns = {"id": [i for i, _ in rows], "prediction": [text for _, text in rows]}
    pq.write_table(pa.table(columns, pa.schema([(name, pa.string()) for name in columns])), file)
    with pytest.raises(BadInput, match="p: not the predictions of this eval set"):
        large(raw).count(file.getvalue(), "p")


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"compression": "zstd"}, True),
        ({"compression": "snappy"}, False),
        ({"compression": "zstd", "use_dictionary": False}, False),
        ({"compression": "zstd", "row_group_size": N // 2}, False),
    ],
)
def test_ids_are_the_same_however_they_are_stored(options: dict[str, Any], same: bool) -> None:
    """They are only unpacked if their bytes differ from the eval set's."""
    raw = lines()
    eval_set, texts = large(raw), answers(small(raw), 1)
    table = pq.read_table(io.BytesIO(encoded(small(raw), texts)))
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    assert same_ids(file.getvalue(), eval_set.file) is same
    assert eval_set.count(file.getvalue(), "p") == small(raw).count(file.getvalue(), "p")


@pytest.mark.parametrize("changed", ["an id", "the codec", "whether ids may be missing"])
def test_ids_that_would_be_read_differently_are_not_the_same(changed: str) -> None:
    """Equal bytes with another codec would unpack to something else."""
    raw = lines()
    eval_set, items = large(raw), small(raw).items
    ids = [item.id for item in items]
    if changed == "an id":
        ids[-1] = "x"
    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=changed != "whether ids may be missing"),
            pa.field("prediction", pa.string()),
        ]
    )
    sink = io.BytesIO()
    pq.write_table(pa.table([ids, ["went"] * N], schema), sink, compression="zstd")
    file = sink.getvalue()
    if changed == "the codec":  # the column's path, then the codec: zstd becomes snappy
        zstd = b"\x19\x18\x02id\x15\x0c"
        assert file.count(zstd) == 1
        file = file.replace(zstd, zstd[:-1] + b"\x02")
    assert not same_ids(file, eval_set.file)


def test_an_invalid_predictions_file_is_refused() -> None:
    """Garbage, different tables and truncated files are all refused."""
    raw = lines()
    good = encoded(small(raw), answers(small(raw), 1))
    numbers = io.BytesIO()
    pq.write_table(pa.table({"id": [1] * N, "prediction": [2] * N}), numbers)
    other = io.BytesIO()
    pq.write_table(pa.table({"id": ["a"] * N}), other)
    eval_set = large(raw)
    for invalid in (b"", b"PAR1", good[:-9], b"x" * 999, numbers.getvalue(), other.getvalue()):
        with pytest.raises(BadInput, match="p: not a predictions file"):
            eval_set.count(invalid, "p")


def test_items_are_validated_as_strictly_as_in_memory() -> None:
    """Malformed lines, duplicate ids and empty sets are refused."""
    raw = lines(5)
    with pytest.raises(BadInput, match="line 3: not JSON"):
        large([*raw[:2], b"{", *raw[2:]])
    with pytest.raises(BadInput, match='f: duplicate id "i\'1"'):
        large([*raw, raw[1]])
    with pytest.raises(BadInput, match="contains no items"):
        large([b""])


def test_a_cached_eval_set_is_not_read_again(tmp_path: Path) -> None:
    """The cache replaces every line of the file. A failed build is not cached."""
    cache = tmp_path / "eval_sets" / "sha.parquet"
    with pytest.raises(BadInput):
        build([b"{"], "f", "md5", "sha", EXACT, cache)
    assert list(cache.parent.iterdir()) == []
    first = build(lines(), "f", "md5", "sha", EXACT, cache)

    def unread() -> Iterator[bytes]:
        raise AssertionError
        yield b""

    again = build(unread(), "f", "md5", "sha", EXACT, cache)
    assert again == first
    assert [path.name for path in cache.parent.iterdir()] == ["sha.parquet"]


def test_flips_have_complete_items() -> None:
    """Reports show the prompt and the accepted answers."""
    raw = lines(3)
    items = small(raw)
    right: list[str | None] = [item.answers[0] for item in items.items]
    found = large(raw).compare(encoded(items, right), encoded(items, [None, *right[1:]]))
    assert [flip.item for flip in found.lost] == [items.items[0]]
    assert isinstance(found.lost[0].item, Item)


def test_predictions_with_damaged_values_are_refused() -> None:
    """The metadata of the file may still be intact."""
    raw = lines()
    eval_set, good = large(raw), encoded(small(raw), answers(small(raw), 1))
    damaged = good[:40] + bytes(byte ^ 0x55 for byte in good[40:400]) + good[400:]
    with pytest.raises(BadInput, match="p: not a predictions file"):
        eval_set.count(damaged, "p")
    with pytest.raises(BadInput, match="predictions: not a predictions file"):
        eval_set.compare(good, good[:-9])


def test_missing_items_are_a_system_failure(tmp_path: Path) -> None:
    """The predictions are not to blame."""
    raw = lines()
    eval_set = build(raw, "f", "md5", "sha", EXACT, tmp_path / "sha.parquet")
    good = encoded(small(raw), answers(small(raw), 1))
    eval_set.file.unlink()
    for use in (
        lambda: eval_set.count(good, "p"),
        lambda: eval_set.compare(good, good),
        lambda: list(eval_set.shuffled("seed")),
        lambda: eval_set.write_answers(batches([None] * N, N, 1), tmp_path / "p", tmp_path / "t"),
    ):
        with pytest.raises(SystemFailed, match="DuckDB could not work on the eval set"):
            use()


def test_too_little_memory_is_a_system_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The predictions are not to blame."""
    raw = lines()
    eval_set, good = large(raw), encoded(small(raw), answers(small(raw), 1))
    monkeypatch.setattr(database, "MEMORY", "1KB")
    with pytest.raises(SystemFailed, match="DuckDB could not work on the eval set"):
        eval_set.count(good, "p")


def test_a_missing_temporary_folder_is_a_system_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the folder."""
    raw = lines()
    eval_set, good = large(raw), encoded(small(raw), answers(small(raw), 1))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(SystemFailed, match=f"{tmp_path}/gone"):
        eval_set.count(good, "p")


def test_the_error_for_a_damaged_cache_says_to_delete_it(tmp_path: Path) -> None:
    """The next evaluation builds the cache again."""
    for damaged in (b"", b"x" * 99):
        (tmp_path / "sha.parquet").write_bytes(damaged)
        with pytest.raises(SystemFailed, match=r"sha\.parquet: .* Delete this file"):
            build(lines(), "f", "md5", "sha", EXACT, tmp_path / "sha.parquet")
