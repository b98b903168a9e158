"""The canary: which prompts it asks, and what it says about servers that answer well and badly."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.adapters.ledgers.directory import DirectoryLedger
from lynx_pipeline.adapters.model_server import _CONSTANTS
from lynx_pipeline.cli import main
from lynx_pipeline.domain.ledger.chain import evidence_path
from lynx_pipeline.domain.ledger.facts import Evidence
from lynx_pipeline.evaluation.baseline import reference_file
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.canary import Difference, Question, choose, differences
from lynx_pipeline.sandbox.inside.worker import plain
from lynx_pipeline_tests.cli.helpers import Capsys, one_paragraph
from lynx_pipeline_tests.support.builders import PROMOTED, fact, jsonl, md5
from lynx_pipeline_tests.support.http_server import Answer, Request, serving
from lynx_pipeline_tests.support.world import World

V = "v0.1.0-dev"
QUESTIONS = [Question(f"i{k}", f"Say word{k}", f"word{k}") for k in range(12)]


# ----- choosing and comparing -----------------------------------------------------------------


def test_every_flipped_question_is_in_the_sample() -> None:
    """Also if there are more of them than the sample has room for."""
    flipped = frozenset(("i3", "i4", "i11"))
    for size in (1, 3, 5):
        chosen = choose(QUESTIONS, flipped, size, random.Random(size))
        assert len(chosen) == max(size, 3)
        assert len({question.id for question in chosen}) == len(chosen)
        assert flipped <= {question.id for question in chosen}


def test_the_others_are_drawn_with_the_same_chance() -> None:
    """Wherever they are in the file. Each of 11 is drawn in 3 of 11 samples."""
    dice, drawn = random.Random(1), Counter[str]()
    for _ in range(3000):
        drawn.update(q.id for q in choose(QUESTIONS, {"i5"}, 4, dice))
    assert drawn.pop("i5") == 3000
    assert len(drawn) == 11
    expected = 3000 * 3 / 11
    assert all(abs(count - expected) < 5 * expected**0.5 for count in drawn.values())


@pytest.mark.parametrize("size", [None, 12, 1000])
def test_all_questions_are_asked_in_random_order(size: int | None) -> None:
    """A server can't recognize the eval set by its order."""
    chosen = choose(QUESTIONS, {"i0"}, size, random.Random(1))
    assert sorted(chosen) == sorted(QUESTIONS)
    assert chosen != QUESTIONS
    assert chosen != choose(QUESTIONS, {"i0"}, size, random.Random(2))


def test_answers_are_compared_exactly() -> None:
    """Another spelling is another answer, and null is not an empty text."""
    asked = [Question("a", "A", "x"), Question("b", "B", None), Question("c", "C", None)]
    assert list(differences(asked, ["x", None, None])) == []
    assert list(differences(asked, ["X", "", None])) == [
        Difference(asked[0], "X"),
        Difference(asked[1], ""),
    ]


def _arrays(kind: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, min_size=1).map(lambda found: numpy.array(found, kind))


ARRAYS = st.one_of(
    _arrays("f2", st.floats(width=16)),
    _arrays("f4", st.floats(width=32)),
    _arrays("f8", st.floats()),
    _arrays("i8", st.integers(-(2**63), 2**63 - 1)),
    _arrays("?", st.booleans()),
)


@given(ARRAYS)
def test_a_number_is_the_answer_that_evaluation_recorded(array: Any) -> None:
    """Whatever its type was: JSON widens it to a double."""
    recorded = plain(array)
    asked = [Question(f"i{k}", "Say", text) for k, text in enumerate(recorded)]
    served = json.loads(json.dumps(array.tolist()), parse_constant=_CONSTANTS.__getitem__)
    assert list(differences(asked, served)) == []


@pytest.mark.parametrize(
    ("recorded", "served"),
    [("3", 3.0), ("3.0", 3), ("0.1", 0.1000000000000001), ("1", True), ("true", 1), ("0.1", None)],
)
def test_another_number_is_another_answer(recorded: str, served: Any) -> None:
    """Also one that is equal and of another type, or differs in the last digit."""
    question = Question("a", "A", recorded)
    shown = None if served is None else json.dumps(served)
    assert list(differences([question], [served])) == [Difference(question, shown)]


# ----- against a server -----------------------------------------------------------------------


@dataclass
class Server:
    """A server in miniserve's form. ``batches`` are the prompts that it was asked."""

    answer: Callable[[str], str | None] = lambda prompt: prompt.removeprefix("Say ")
    version: str = V
    batches: list[list[str]] = field(default_factory=list)

    def respond(self, request: Request) -> Answer:
        """Answer a batch."""
        prompts = json.loads(request.body)["prompts"]
        self.batches.append(prompts)
        answers = [self.answer(prompt) for prompt in prompts]
        return Answer(json.dumps({"version": self.version, "answers": answers}).encode())

    @property
    def asked(self) -> list[str]:
        """All prompts, in order."""
        return [prompt for batch in self.batches for prompt in batch]


@contextmanager
def running(server: Server) -> Iterator[str]:
    with serving(server.respond) as url:
        yield f"{url}/predict"


@pytest.fixture
def world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A project with a promoted version that answers everything right, and the folder in it."""
    world.promote(world.candidate("good"), V)
    monkeypatch.chdir(world.settings.root)
    return world


def run(server: Server, *options: str, version: str = V) -> int:
    """Run the command against a server."""
    with running(server) as url:
        return main(["canary", version, "--url", url, *options])


def test_an_honest_server_passes(world: World, capsys: Capsys) -> None:
    """Every prompt is asked once, one in a request unless a batch is allowed."""
    for options, sizes in (([], [1] * 12), (["--batch", "5"], [5, 5, 2])):
        server = Server()
        assert run(server, "--sample", "all", *options) == 0
        assert "Sent 12 prompts, drawn at random. 12 of 12" in capsys.readouterr().out
        assert [len(batch) for batch in server.batches] == sizes
        assert sorted(server.asked) == sorted(q.prompt for q in QUESTIONS)
    assert run(Server(), version="latest") == 0


def test_the_sample_cannot_be_predicted(world: World) -> None:
    """Ten runs with six of twelve prompts ask different ones, in different orders."""
    orders = set()
    for _ in range(10):
        server = Server()
        assert run(server, "--sample", "6", "--batch", "6") == 0
        assert len(set(server.asked)) == 6
        orders.add(tuple(server.asked))
    assert len(orders) > 5


def test_a_server_that_answers_differently_is_caught(world: World, capsys: Capsys) -> None:
    """The first few differences are shown, and all of them as JSON."""
    server = Server(lambda prompt: "he goed\x1b[2K")
    assert run(server) == 1
    out, err = capsys.readouterr()
    assert out.count("expected 'word") == 5
    assert "answered 'he goed?[2K'" in out
    assert "and 7 more" in out
    assert "12 of 12 answers differ" in err
    assert "\x1b" not in out + err
    one = Server(lambda prompt: None if prompt == "Say word7" else prompt.removeprefix("Say "))
    assert run(one, "--json") == 1
    assert json.loads(capsys.readouterr().out) == {
        "version": V,
        "asked": 12,
        "flipped": 0,
        "other": None,
        "differences": [
            {"id": "i7", "prompt": "Say word7", "expected": "word7", "answer": None},
        ],
    }


def test_another_version_is_refused(world: World, capsys: Capsys) -> None:
    """Its answers are not compared, even if they are the same."""
    assert run(Server(version="v0.2.0-dev")) == 1
    assert f"the server serves 'v0.2.0-dev', expected {V}" in one_paragraph(capsys)


def test_flipped_answers_are_always_asked(world: World, capsys: Capsys) -> None:
    """The reference answers two questions wrong that this version answers right."""
    world.candidate("reference", wrong=2)
    raw = (world.folder / "reference-evidence/predictions.parquet").read_bytes()
    file = reference_file(world.settings)
    file.write_bytes(raw)
    file.with_name(f"{file.name}.dvc").write_text(
        f"outs:\n- md5: {md5(raw)}\n  size: {len(raw)}\n  hash: md5\n  path: {file.name}\n"
    )
    for _ in range(5):
        server = Server()
        assert run(server, "--sample", "3") == 0
        assert (
            f"Sent 3 prompts, including 2 that only {V} or only the reference model answers right"
            in capsys.readouterr().out
        )
        assert len(server.asked) == 3
        assert {"Say word0", "Say word1"} <= set(server.asked)


def test_without_a_reference_the_version_before_shows_what_flipped(
    world: World, capsys: Capsys
) -> None:
    """A version that was promoted by hand has no predictions, and is passed over."""
    by_hand = fact(event=PROMOTED, semver="v0.2.0-dev")
    Registry.open(world.settings).store.append(lambda _: by_hand)
    lower = json.loads(world.settings.baseline.read_bytes())
    for bucket in lower["buckets"].values():
        bucket["accuracy"] = 0.5
        bucket.pop("correct", None)
    world.settings.baseline.write_text(json.dumps(lower))
    world.promote(world.candidate("worse", wrong=1), "v0.3.0-dev")
    answers = {"Say word0": "wrong"}
    for _ in range(5):
        server = Server(lambda prompt: answers.get(prompt, prompt.removeprefix("Say ")))
        server.version = "v0.3.0-dev"
        assert run(server, "--sample", "2", version="v0.3.0-dev") == 0
        out = capsys.readouterr().out
        assert f"including 1 that only v0.3.0-dev or only {V} answers right. 2 of 2" in out
        assert "Say word0" in server.asked


@pytest.mark.parametrize("version", ["v9.9.9-dev", "v0.2.0-dev"])
def test_a_version_without_evidence_is_bad_input(
    world: World, capsys: Capsys, version: str
) -> None:
    """One that was never promoted, and one that was promoted by hand. The server is not asked."""
    by_hand = fact(event=PROMOTED, semver="v0.2.0-dev")
    Registry.open(world.settings).store.append(lambda _: by_hand)
    server = Server()
    assert run(server, version=version) == 2
    assert version in one_paragraph(capsys)
    assert server.asked == []


def test_missing_predictions_are_bad_input(world: World, capsys: Capsys) -> None:
    """Also if they were changed, or the registry can't be read."""
    registry = world.settings.root / "registry"
    evidence = Registry.open(world.settings).promoted().fact.evidence
    assert isinstance(evidence, Evidence)
    file = registry / evidence_path(evidence.predictions_sha256)
    for damage in (lambda: file.write_bytes(b"x"), file.unlink):
        damage()
        assert run(Server()) == 2
        assert evidence.predictions_sha256 in one_paragraph(capsys)
    DirectoryLedger(registry).file.write_bytes(b"{}\n")
    assert run(Server()) == 2
    assert "line 1" in one_paragraph(capsys)


def test_another_eval_set_is_bad_input(world: World, capsys: Capsys) -> None:
    """The predictions don't answer its questions. The message says which one they answer."""
    before = world.settings.eval_set.read_bytes()
    raw = before + jsonl([{**json.loads(before.splitlines()[0]), "id": "new"}])
    world.settings.eval_set.write_bytes(raw)
    world.settings.eval_set.with_name("eval.jsonl.dvc").write_text(
        f"outs:\n- md5: {md5(raw)}\n  size: {len(raw)}\n  hash: md5\n  path: eval.jsonl\n"
    )
    server = Server()
    assert run(server) == 2
    assert f"was evaluated on the eval set {md5(before)}" in one_paragraph(capsys)
    assert server.asked == []


def test_a_server_that_cannot_be_asked_ends_with_3(world: World, capsys: Capsys) -> None:
    """That proves nothing about the model."""
    with serving(lambda _: Answer(status=503)) as url:
        assert main(["canary", V, "--url", f"{url}/predict"]) == 3
    assert "status 503" in one_paragraph(capsys)


@pytest.mark.parametrize(
    "options",
    [
        ["--url", "http://x/other"],
        ["--url", "http://x/predict", "--sample", "0"],
        ["--url", "http://x/predict", "--sample", "some"],
        ["--url", "http://x/predict", "--batch", "0"],
        ["--url", "http://x/predict", "--timeout", "0"],
        [],
    ],
)
def test_bad_usage_ends_with_2(world: World, options: list[str]) -> None:
    """Before anything is read or asked."""
    assert main(["canary", V, *options]) == 2


def test_the_token_comes_from_the_environment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in no argument, which other users of the machine could read."""
    monkeypatch.setenv("LYNX_CANARY_TOKEN", "secret")
    got = set()

    def answer(request: Request) -> Answer:
        got.add(request.authorization)
        return Server().respond(request)

    with serving(answer) as url:
        assert main(["canary", V, "--url", f"{url}/predict", "--sample", "2"]) == 0
    assert got == {"Bearer secret"}
