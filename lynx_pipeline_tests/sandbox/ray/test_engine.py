"""A Ray cluster of several nodes, all of them on this machine, and models that MLflow loads.

Nodes are *closed*, with bubblewrap, or *open*, without: on an open one a model can note down what
it was asked, in a file for each process.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.config import EvaluationSettings, Limits
from lynx_pipeline.domain.candidate_eval import BUBBLEWRAP, NONE, CandidateEval
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused, SystemFailed
from lynx_pipeline.evaluation.evidence import EVAL, PREDICTIONS, read_evidence
from lynx_pipeline.evaluation.run import evaluate
from lynx_pipeline.sandbox.ray import engine as ray_engine
from lynx_pipeline.sandbox.ray.engine import Ray
from lynx_pipeline.sandbox.ray.node import software
from lynx_pipeline.sandbox.workers import Answered, Batch
from lynx_pipeline_tests.support.builders import GOOD, bundle, eval_items, eval_set
from lynx_pipeline_tests.support.strangers import ask, batches, isolation

pytestmark = pytest.mark.slow

ITEMS = eval_set(eval_items(120))
PROMPTS = [item.prompt for item in ITEMS.items]
LIMITS = Limits(batch_size=5, batch_seconds=30, load_seconds=30, total_seconds=90)
IMPATIENT = Limits(batch_size=5, batch_seconds=30, load_seconds=12, total_seconds=90)


class Nodes:
    """A cluster whose head runs nothing, and one CPU on each other node."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder
        self.cluster = Cluster(initialize_head=True, head_node_args=_small(0))
        self.open: list[Any] = []
        self.closed: list[Any] = []

    def have(self, *, open: int = 0, closed: int = 0) -> None:
        """As many of each kind, of those that were left and new ones."""
        for nodes, wanted, path in ((self.open, open, ""), (self.closed, closed, os.defpath)):
            while len(nodes) > wanted:
                self.lose(nodes[-1])
            while len(nodes) < wanted:
                nodes.append(self.add(PATH=path))

    def add(self, **environ: str) -> Any:
        """A node whose processes have these variables."""
        return self.cluster.add_node(**_small(1), env_vars={"TMPDIR": str(self.folder), **environ})

    def lose(self, node: Any) -> None:
        """Without a word, as when the power fails."""
        self.cluster.remove_node(node, allow_graceful=False)
        for nodes in (self.open, self.closed):
            if node in nodes:
                nodes.remove(node)

    def actors(self) -> list[int]:
        """The processes of actors that are alive."""
        mine = _processes(f"TMPDIR={self.folder}")
        return [pid for pid, title in mine if title.startswith("ray::Node")]

    def drivers(self) -> list[int]:
        """The processes that speak with this cluster."""
        mine = _processes(f"RAY_ADDRESS={self.cluster.address}")
        return [pid for pid, title in mine if "driver.main" in title]

    def nothing_is_left(self) -> None:
        """No actor, and no file of ours on any node."""
        _soon(lambda: not self.actors() and not list(self.folder.iterdir()))


def _small(cpus: int) -> dict[str, Any]:
    return {"num_cpus": cpus, "object_store_memory": 80 << 20, "include_dashboard": False}


def _processes(variable: str) -> Iterator[tuple[int, str]]:
    """Those that have this variable, and their titles; other tests may have a cluster too."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name), (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue


def _soon(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert holds()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Nodes are started by the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        nodes = Nodes(tmp_path_factory.mktemp("nodes"))
        session = nodes.cluster.head_node.get_session_dir_path()
        yield nodes
        nodes.cluster.shutdown()
        shutil.rmtree(session, ignore_errors=True)


@pytest.fixture(autouse=True)
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where users say which cluster it is. After each test nothing of it is left there."""
    nodes: Nodes = request.getfixturevalue("cluster")
    monkeypatch.setenv("RAY_ADDRESS", nodes.cluster.address)
    yield
    nodes.nothing_is_left()


@pytest.fixture
def nodes(cluster: Nodes) -> Nodes:
    """The cluster."""
    return cluster


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where a model of :func:`marking` notes what it is asked."""
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def marking(marks: Path, also: str = "time.sleep(0.1)") -> Path:
    """A good model that notes what it is asked, in a file named by its process."""
    body = f"""\
import os, time
with open(f"{marks}/{{os.getpid()}}", "a") as file:
    file.writelines(prompt + "\\n" for prompt in prompts)
{also}
{GOOD}"""
    return bundle(marks.parent / "bundle", body)


def asked(marks: Path) -> Counter[str]:
    """How often each question was asked."""
    return Counter(line for file in marks.iterdir() for line in file.read_text().splitlines())


def engine(
    model: Path,
    limits: Limits = LIMITS,
    env: Env = Env.DEV,
    said: list[str] | None = None,
    most: int = 0,
) -> Ray:
    """The engine on this bundle as it is now."""
    warn = ([] if said is None else said).append
    return Ray(model, read_bundle(model).canonical_sha, env, (), limits, warn, most)


def answers(engine: Ray, prompts: list[str] = PROMPTS) -> list[Answered]:
    """All questions asked."""
    return list(engine.answer(batches(prompts, LIMITS.batch_size), len(prompts)))


def run(
    model: Path,
    output: Path,
    engine: str = "ray",
    env: Env = Env.DEV,
    limits: Limits = LIMITS,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> CandidateEval:
    """Evaluate it on :data:`ITEMS`."""
    return evaluate(
        model,
        ITEMS,
        output / EVAL,
        EvaluationSettings(limits, engine=engine),
        run_id=None,
        env=env,
        warn=lambda _: None,
        progress=progress,
    )


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the evidence of a good model lies that was evaluated on this machine."""
    folder = tmp_path_factory.mktemp("here")
    run(bundle(folder / "bundle"), folder, "local")
    return folder


def test_the_evidence_is_the_same_as_on_this_machine(
    nodes: Nodes, here: Path, tmp_path: Path
) -> None:
    """To the byte; and the nodes have the isolation that this machine has."""
    nodes.have(closed=2)
    env = Env.PROD if isolation().level == BUBBLEWRAP else Env.DEV
    there = run(bundle(tmp_path / "bundle"), tmp_path, env=env)
    assert (tmp_path / PREDICTIONS).read_bytes() == (here / PREDICTIONS).read_bytes()
    before = read_evidence(here, ITEMS).evaluation
    assert asdict(there) == {**asdict(before), "metrics": there.metrics}
    assert list(tmp_path.glob("*.journal")) == []


def _timeless(error: BaseException) -> str:
    return re.sub(r"\d\d:\d\d:\d\d", "", str(error))  # of what MLflow logged


def test_a_candidate_that_fails_is_not_asked_again(nodes: Nodes, tmp_path: Path) -> None:
    """It is told as on this machine."""
    nodes.have(closed=1)
    model = bundle(tmp_path / "bundle", "raise KeyError('inside')")
    said: list[str] = []
    with pytest.raises(BadInput) as there:
        answers(engine(model, said=said))
    with pytest.raises(BadInput) as here:
        ask(model, LIMITS)
    assert _timeless(there.value) == _timeless(here.value)
    assert said == []


def test_nobody_needs_to_hear_all_answers(nodes: Nodes, tmp_path: Path) -> None:
    """Whoever stops listening leaves nothing on the nodes, also while a batch is answered."""
    nodes.have(closed=1)
    body = f"import time; 'Say word99' in prompts and time.sleep(60)\n{GOOD}"
    model = bundle(tmp_path / "bundle", body)
    found = engine(model).answer(batches(PROMPTS, 5), len(PROMPTS))
    for _ in zip(range(19), found, strict=False):
        pass
    started = time.monotonic()
    found.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 5


def test_all_nodes_work_and_take_a_batch_when_they_have_room(nodes: Nodes, marks: Path) -> None:
    """Every question once; of the batches two an actor at most are on their way."""
    nodes.have(open=2)
    taken = 0

    def counted() -> Iterator[Batch]:
        nonlocal taken
        for batch in batches(PROMPTS, 5):
            taken += 1
            yield batch

    said: list[str] = []
    found = []
    both = f"while len(os.listdir({str(marks)!r})) < 2: time.sleep(0.05)"
    for answered in engine(marking(marks, both), said=said).answer(counted(), len(PROMPTS)):
        found.append(answered)
        time.sleep(0.05)
        assert taken <= len(found) + 4
    assert sorted(row for batch in found for row in batch.rows) == list(range(120))
    assert set(asked(marks).values()) == {1}
    # A node has one CPU, so the two processes ran on two nodes.
    assert len(list(marks.iterdir())) == len({batch.load_seconds for batch in found}) == 2
    assert {batch.isolation for batch in found} == {NONE}
    assert sum("NO ISOLATION" in text for text in said) == 1


def test_prod_does_without_a_node_that_has_no_isolation(nodes: Nodes, marks: Path) -> None:
    """The node is asked, not the machine where the evaluation is started."""
    nodes.have(open=2)
    with pytest.raises(Refused, match=r"on the Ray node .*only in isolation"):
        answers(engine(marking(marks), env=Env.PROD))
    assert asked(marks) == {}


def test_a_bundle_that_changed_on_the_way_is_not_evaluated(nodes: Nodes, marks: Path) -> None:
    """A node hashes what it got."""
    nodes.have(open=2)
    asks = engine(marking(marks))
    with (marks.parent / "bundle" / "code" / "tiny_loader.py").open("a") as file:
        file.write("\n")
    with pytest.raises(SystemFailed, match=r"on the Ray node .* canonical sha .* expected"):
        answers(asks)
    assert asked(marks) == {}


def test_a_node_with_other_software_is_refused(
    nodes: Nodes, marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It might answer otherwise. What only one side has does not count."""
    nodes.have(open=2)
    other = {**software(), "numpy": "0.1", "lynx-pipeline": "other", "only-here": "1"}
    monkeypatch.setattr(ray_engine, "software", lambda: other)
    says = r"other software: lynx-pipeline \w+ \(here: other\), numpy \S+ \(here: 0.1\)\."
    with pytest.raises(SystemFailed, match=says):
        answers(engine(marking(marks)))
    assert asked(marks) == {}


ALONE = """
import sys
from pathlib import Path
from lynx_pipeline_tests.sandbox.ray.test_engine import PROMPTS, batches, engine
for _ in engine(Path(sys.argv[1])).answer(batches(PROMPTS, 5), len(PROMPTS)):
    print("answered", flush=True)
"""


def test_an_evaluation_that_is_killed_leaves_nothing(nodes: Nodes, marks: Path) -> None:
    """The process that speaks with Ray notices, and ends."""
    nodes.have(open=2)
    command = [sys.executable, "-c", ALONE, str(marking(marks))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as evaluation:
        assert evaluation.stdout
        assert evaluation.stdout.readline() == b"answered\n"
        evaluation.kill()
    _soon(lambda: not nodes.drivers())


def test_the_process_that_speaks_with_ray_may_end(nodes: Nodes, marks: Path) -> None:
    """Ray ends it when the cluster's head is gone."""
    nodes.have(open=2)
    found = engine(marking(marks)).answer(batches(PROMPTS, 5), len(PROMPTS))
    next(found)
    [driver] = nodes.drivers()
    os.kill(driver, 9)
    with pytest.raises(SystemFailed, match="process that speaks with Ray ended"):
        list(found)


def test_a_batch_that_kills_its_workers_is_the_candidates_fault(nodes: Nodes, marks: Path) -> None:
    """Here it kills the actor itself, as a model would that takes all memory."""
    nodes.have(open=2)
    model = marking(marks, also="'Say word7' in prompts and os.kill(os.getppid(), 9)")
    said: list[str] = []
    with pytest.raises(BadInput, match="3 workers were lost while they answered one batch"):
        answers(engine(model, said=said, most=1), PROMPTS[:20])
    # The batch before is blamed where its answer was lost with the actor.
    assert 3 <= asked(marks)["Say word7"] <= 5
    assert any("was lost" in text for text in said)


# Each process waits after six batches, until there is a file beside the bundle.
WAITING = """\
global n
n = globals().get("n", 0) + 1
while n > 6 and not os.path.exists({go!r}): time.sleep(0.05)"""


@pytest.mark.parametrize("what", ["actor", "node"])
def test_what_is_lost_is_asked_again_elsewhere(
    nodes: Nodes, marks: Path, here: Path, tmp_path: Path, what: str
) -> None:
    """And nothing else is; the evidence is the same to the byte."""
    nodes.have(open=2)
    model = marking(marks, WAITING.format(go=f"{tmp_path}/go"))

    def kill(done: int, of: int) -> None:
        if done == 50:
            before = set(nodes.actors())
            nodes.lose(nodes.open[0]) if what == "node" else os.kill(min(before), 9)
            _soon(lambda: not before <= set(nodes.actors()))
            (tmp_path / "go").touch()

    run(model, tmp_path, progress=kill)
    assert len(asked(marks)) == 120
    assert 5 <= sum(times - 1 for times in asked(marks).values()) <= 10
    assert (tmp_path / PREDICTIONS).read_bytes() == (here / PREDICTIONS).read_bytes()


def test_when_all_nodes_are_lost_the_answers_are_kept(
    nodes: Nodes, marks: Path, here: Path, tmp_path: Path
) -> None:
    """It says so in bounded time, and goes on when there is a node again."""
    nodes.have(open=1)
    model = marking(marks, WAITING.format(go=f"{tmp_path}/go"))

    def kill(done: int, of: int) -> None:
        if done == 20:
            nodes.have()

    started = time.monotonic()
    with pytest.raises(SystemFailed, match=r"no node of the Ray cluster took .* was lost"):
        run(model, tmp_path, limits=IMPATIENT, progress=kill)
    assert time.monotonic() - started < 40
    (tmp_path / "go").touch()
    before = asked(marks)
    nodes.have(open=1)
    told: list[int] = []
    run(model, tmp_path, progress=lambda done, of: told.append(done))
    assert 20 <= told[0] <= 30
    assert sum((asked(marks) - before).values()) == 120 - told[0]
    assert (tmp_path / PREDICTIONS).read_bytes() == (here / PREDICTIONS).read_bytes()


def test_a_node_without_us_is_named_as_that(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to install."""
    nodes.have()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "lynx_pipeline.py").write_text("raise ImportError('not here')")
    monkeypatch.chdir(tmp_path)  # Ray lets nodes import from the folder that it is started in
    node = nodes.add(PYTHONPATH=str(tmp_path / "other"))
    with pytest.raises(SystemFailed, match=r"install 'lynx-pipeline\[ray\]' on every node"):
        answers(engine(bundle(tmp_path / "bundle")))
    nodes.lose(node)


def test_a_cluster_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself tries for minutes."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(SystemFailed, match="RAY_ADDRESS"):
        answers(engine(bundle(tmp_path / "bundle"), Limits(load_seconds=3)))
    assert time.monotonic() - started < 10


def test_without_ray_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match=r"pip install 'lynx-pipeline\[ray\]'"):
        answers(engine(bundle(tmp_path / "bundle")))
