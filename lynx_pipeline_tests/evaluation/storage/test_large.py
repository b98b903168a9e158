"""Large eval sets: the same results as the small ones, by other means."""

import io
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lynx_pipeline.domain.candidate_eval import score
from lynx_pipeline.domain.eval_set import EvalSet, Item, bucket_sizes, parse_eval_set
from lynx_pipeline.domain.gate.comparison import compare
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline.evaluation.storage import large as large_eval_set
from lynx_pipeline.evaluation.storage.large import LargeEvalSet, build
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
    made = []
    for number in range(count):
        item = {
            "id": f"i'{number}",
            "prompt": f"Say  {dice.choice(ODD)} {number}",
            "expected": dice.choice(ODD),
            "accept": dice.sample(ODD, dice.randint(0, 2)),
            "buckets": {"d": dice.choice("abc"), "e": dice.choice("xy")},
        }
        made.append(json.dumps(item).encode())
    return made


def small(raw: list[bytes]) -> EvalSet:
    """Held in memory."""
    return EvalSet(tuple(parse_eval_set(raw, "f")), "md5", "sha")


def large(raw: list[bytes]) -> LargeEvalSet:
    """On disk."""
    return build(raw, "f", "md5", "sha", EXACT, None)


def answers(eval_set: EvalSet, seed: int) -> list[str | None]:
    """Right ones, right ones written otherwise, wrong ones and none."""
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
    """Their predictions file."""
    return predictions_bytes([item.id for item in eval_set.items], texts)


@pytest.mark.parametrize("seed", range(8))
def test_counts_and_flips_are_those_of_the_small_one(seed: int) -> None:
    """To the last answer and in the same order."""
    raw = lines(seed=seed)
    held, kept = small(raw), large(raw)
    assert len(kept) == len(held) == N
    assert kept.cells() == held.cells()
    assert bucket_sizes(kept) == bucket_sizes(held)
    assert kept.prompt_words == sum(len(item.prompt.split()) for item in held.items)
    first, second = answers(held, seed), answers(held, seed + 99)
    ids = [item.id for item in held.items]
    assert kept.count(encoded(held, first), "p") == score(held, zip(ids, first, strict=True))
    expected = compare(
        held, dict(zip(ids, first, strict=True)), dict(zip(ids, second, strict=True))
    )
    assert expected.lost
    assert kept.compare(encoded(held, first), encoded(held, second)) == expected


def test_every_prompt_comes_once_in_an_order_of_the_seed() -> None:
    """With its row."""
    raw = lines()
    prompts = [item.prompt for item in small(raw).items]
    kept = large(raw)
    orders = [list(kept.shuffled(seed)) for seed in ("a", "a", "b")]
    for order in orders:
        assert sorted(order) == list(enumerate(prompts))
        assert order != sorted(order)
    assert orders[0] == orders[1] != orders[2]


def batches(texts: list[str | None], size: int, seed: int) -> Iterator[Answered]:
    """The answers in batches, in any order."""
    rows = list(range(len(texts)))
    random.Random(seed).shuffle(rows)
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        yield Answered(some, [texts[row] for row in some], len(some) / 4, 0.5, 1.0, "none")


def test_answers_are_put_in_order(tmp_path: Path) -> None:
    """Whatever order and batches they came in: the same bytes."""
    raw = lines()
    held, kept = small(raw), large(raw)
    texts, ids = answers(held, 5), [item.id for item in held.items]
    made = set()
    for size, seed in ((1, 1), (64, 2), (N, 3)):
        files = tmp_path / f"p{size}", tmp_path / f"t{size}"
        kept.write_answers(batches(texts, size, seed), *files)
        made.add(tuple(file.read_bytes() for file in files))
    ((predictions, timings),) = made
    assert read_predictions(predictions, "p", N) == list(zip(ids, texts, strict=True))
    times = pq.read_table(io.BytesIO(timings))
    assert times.to_pydict() == {"id": ids, "seconds": [0.25] * N}


def test_more_rows_than_fit_are_written_in_even_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the bytes depend on the rows alone."""
    monkeypatch.setattr(large_eval_set, "_ROWS", 64)
    raw = lines()
    kept, texts = large(raw), answers(small(raw), 5)
    made = set()
    for size in (1, 100, N):
        kept.write_answers(batches(texts, size, 1), tmp_path / "p", tmp_path / "t")
        made.add((tmp_path / "p").read_bytes())
    assert len(made) == 1
    assert kept.count(made.pop(), "p").n == N


Rows = list[tuple[str | None, str]]
WRONG: dict[str, Callable[[Rows], Rows]] = {
    "one too few": lambda rows: rows[:-1],
    "one too many": lambda rows: [*rows, ("x", "went")],
    "one too many of the same": lambda rows: [*rows, rows[-1]],
    "two in each other's place": lambda rows: [rows[1], rows[0], *rows[2:]],
    "one twice": lambda rows: [rows[0], rows[0], *rows[2:]],
    "an unknown one": lambda rows: [("x", "went"), *rows[1:]],
    "one without an id": lambda rows: [(None, "went"), *rows[1:]],
    "none": lambda rows: [],
}


@pytest.mark.parametrize("kind", WRONG)
def test_rows_that_answer_other_items_are_refused(kind: str) -> None:
    """Never a smaller denominator."""
    raw = lines()
    held = small(raw)
    rows = WRONG[kind]([(item.id, "went") for item in held.items])
    file = io.BytesIO()
    columns = {"id": [i for i, _ in rows], "prediction": [text for _, text in rows]}
    pq.write_table(pa.table(columns, pa.schema([(name, pa.string()) for name in columns])), file)
    with pytest.raises(BadInput, match="p: not the predictions of this eval set"):
        large(raw).count(file.getvalue(), "p")


def test_what_is_no_predictions_file_is_refused() -> None:
    """Rubbish, another table, a cut one."""
    raw = lines()
    good = encoded(small(raw), answers(small(raw), 1))
    numbers = io.BytesIO()
    pq.write_table(pa.table({"id": [1] * N, "prediction": [2] * N}), numbers)
    other = io.BytesIO()
    pq.write_table(pa.table({"id": ["a"] * N}), other)
    kept = large(raw)
    for damaged in (b"", b"PAR1", good[:-9], b"x" * 999, numbers.getvalue(), other.getvalue()):
        with pytest.raises(BadInput, match="p: not a predictions file"):
            kept.count(damaged, "p")


def test_items_are_as_strict_as_in_memory() -> None:
    """A bad line, an id that stands twice, nothing at all."""
    raw = lines(5)
    with pytest.raises(BadInput, match="line 3: not JSON"):
        large([*raw[:2], b"{", *raw[2:]])
    with pytest.raises(BadInput, match='"i\'1" stands twice'):
        large([*raw, raw[1]])
    with pytest.raises(BadInput, match="contains no items"):
        large([b""])


def test_a_kept_one_is_not_read_again(tmp_path: Path) -> None:
    """Not one line; and a failed one is not kept."""
    keep = tmp_path / "eval_sets" / "sha.parquet"
    with pytest.raises(BadInput):
        build([b"{"], "f", "md5", "sha", EXACT, keep)
    assert list(keep.parent.iterdir()) == []
    first = build(lines(), "f", "md5", "sha", EXACT, keep)

    def unread() -> Iterator[bytes]:
        raise AssertionError
        yield b""

    again = build(unread(), "f", "md5", "sha", EXACT, keep)
    assert again == first
    assert [path.name for path in keep.parent.iterdir()] == ["sha.parquet"]


def test_the_items_of_flips_are_whole() -> None:
    """For the report."""
    raw = lines(3)
    held = small(raw)
    right: list[str | None] = [item.answers[0] for item in held.items]
    found = large(raw).compare(encoded(held, right), encoded(held, [None, *right[1:]]))
    assert [flip.item for flip in found.lost] == [held.items[0]]
    assert isinstance(found.lost[0].item, Item)


def test_predictions_damaged_within_are_no_predictions_file() -> None:
    """What the file says of itself is whole; what it holds is not."""
    raw = lines()
    kept, good = large(raw), encoded(small(raw), answers(small(raw), 1))
    damaged = good[:40] + bytes(byte ^ 0x55 for byte in good[40:400]) + good[400:]
    with pytest.raises(BadInput, match="p: not a predictions file"):
        kept.count(damaged, "p")
    with pytest.raises(BadInput, match="predictions: not a predictions file"):
        kept.compare(good, good[:-9])


def test_without_its_items_the_system_failed(tmp_path: Path) -> None:
    """The predictions are as good as ever."""
    raw = lines()
    kept = build(raw, "f", "md5", "sha", EXACT, tmp_path / "sha.parquet")
    good = encoded(small(raw), answers(small(raw), 1))
    kept.file.unlink()
    for use in (
        lambda: kept.count(good, "p"),
        lambda: kept.compare(good, good),
        lambda: list(kept.shuffled("seed")),
        lambda: kept.write_answers(batches([None] * N, N, 1), tmp_path / "p", tmp_path / "t"),
    ):
        with pytest.raises(SystemFailed, match="DuckDB could not work on the eval set"):
            use()


def test_too_little_memory_is_a_failed_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the machine's, and not of the file's that was read last."""
    raw = lines()
    kept, good = large(raw), encoded(small(raw), answers(small(raw), 1))
    monkeypatch.setattr(large_eval_set, "MEMORY", "1KB")
    with pytest.raises(SystemFailed, match="DuckDB could not work on the eval set"):
        kept.count(good, "p")


def test_no_place_for_temporary_files_is_a_failed_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place is named."""
    raw = lines()
    kept, good = large(raw), encoded(small(raw), answers(small(raw), 1))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(SystemFailed, match=f"{tmp_path}/gone"):
        kept.count(good, "p")


def test_a_kept_one_that_is_damaged_is_to_be_deleted(tmp_path: Path) -> None:
    """It can be made again."""
    for damaged in (b"", b"x" * 99):
        (tmp_path / "sha.parquet").write_bytes(damaged)
        with pytest.raises(SystemFailed, match=r"sha\.parquet: .* Delete this file"):
            build(lines(), "f", "md5", "sha", EXACT, tmp_path / "sha.parquet")
