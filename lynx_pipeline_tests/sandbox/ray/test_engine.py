"""A Ray cluster of several nodes, all on this machine, and models that MLflow loads.

Nodes are *isolated*, with bubblewrap, or *open*, without. On an open node a model can log its
prompts, in one file per process.
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

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.config import EvaluationSettings, Limits
from lynx_pipeline.domain.candidate_eval import BUBBLEWRAP, NONE, CandidateEval
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused, SystemFailed
from lynx_pipeline.evaluation.evidence import EVAL, PREDICTIONS, read_evidence
from lynx_pipeline.evaluation.run import evaluate
from lynx_pipeline.sandbox.engine import Answered, Batch
from lynx_pipeline.sandbox.ray import engine as ray_engine
from lynx_pipeline.sandbox.ray.engine import Ray
from lynx_pipeline.sandbox.ray.node import software
from lynx_pipeline_tests.sandbox.ray.nodes import Nodes, assert_soon
from lynx_pipeline_tests.support.builders import GOOD, bundle, eval_items, eval_set
from lynx_pipeline_tests.support.worker_scripts import ask, batches, isolation

pytestmark = pytest.mark.slow

ITEMS = eval_set(eval_items(120))
PROMPTS = [item.prompt for item in ITEMS.items]
LIMITS = Limits(batch_size=5, batch_seconds=30, load_seconds=30, total_seconds=90)
IMPATIENT = Limits(batch_size=5, batch_seconds=30, load_seconds=12, total_seconds=90)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A cluster without nodes. The tests start them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        nodes = Nodes(tmp_path_factory.mktemp("nodes"))
        session = nodes.cluster.head_node.get_session_dir_path()
        yield nodes
        nodes.cluster.shutdown()
        shutil.rmtree(session, ignore_errors=True)


@pytest.fixture(autouse=True)
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set RAY_ADDRESS to the cluster, and check after each test that it left nothing there."""
    nodes: Nodes = request.getfixturevalue("cluster")
    monkeypatch.setenv("RAY_ADDRESS", nodes.cluster.address)
    yield
    nodes.assert_nothing_left()


@pytest.fixture
def nodes(cluster: Nodes) -> Nodes:
    """The cluster."""
    return cluster


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The folder in which a :func:`logging_model` logs its prompts."""
    (tmp_path / "prompts").mkdir()
    return tmp_path / "prompts"


def logging_model(log: Path, also: str = "time.sleep(0.1)") -> Path:
    """A good model that logs its prompts, in a file named by its process id."""
    body = f"""\
import os, time
with open(f"{log}/{{os.getpid()}}", "a") as file:
    file.writelines(prompt + "\\n" for prompt in prompts)
{also}
{GOOD}"""
    return bundle(log.parent / "bundle", body)


def asked(log: Path) -> Counter[str]:
    """How often each prompt was asked."""
    return Counter(line for file in log.iterdir() for line in file.read_text().splitlines())


def engine(
    model: Path,
    limits: Limits = LIMITS,
    env: Env = Env.DEV,
    warnings: list[str] | None = None,
    max_workers: int = 0,
) -> Ray:
    """The engine for this bundle in its current state."""
    warn = ([] if warnings is None else warnings).append
    return Ray(model, read_bundle(model).digest, env, (), limits, warn, max_workers)


def answers(engine: Ray, prompts: list[str] = PROMPTS) -> list[Answered]:
    """The answers to all prompts, in batches."""
    return list(engine.answer(batches(prompts, LIMITS.batch_size), len(prompts)))


def run(
    model: Path,
    output: Path,
    engine: str = "ray",
    env: Env = Env.DEV,
    limits: Limits = LIMITS,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> CandidateEval:
    """Evaluate the model on :data:`ITEMS`."""
    return evaluate(
        model,
        ITEMS,
        output / EVAL,
        EvaluationSettings(limits, engine=engine),
        candidate=None,
        env=env,
        warn=lambda _: None,
        progress=progress,
    ).evaluation


@pytest.fixture(scope="module")
def local_evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evidence of a good model that the local engine evaluated."""
    folder = tmp_path_factory.mktemp("local")
    run(bundle(folder / "bundle"), folder, "local")
    return folder


def test_the_evidence_is_the_same_as_on_this_machine(
    nodes: Nodes, local_evidence: Path, tmp_path: Path
) -> None:
    """The predictions are equal byte for byte, and the nodes have the same isolation as this
    machine."""
    nodes.scale_to(isolated=2)
    env = Env.PROD if isolation().level == BUBBLEWRAP else Env.DEV
    on_ray = run(bundle(tmp_path / "bundle"), tmp_path, env=env)
    assert (tmp_path / PREDICTIONS).read_bytes() == (local_evidence / PREDICTIONS).read_bytes()
    local = read_evidence(local_evidence, ITEMS).evaluation
    assert asdict(on_ray) == {**asdict(local), "metrics": on_ray.metrics}
    assert list(tmp_path.glob("*.journal")) == []


def _timeless(error: BaseException) -> str:
    return re.sub(r"\d\d:\d\d:\d\d", "", str(error))  # the times in MLflow's log


def test_a_failing_candidate_is_not_retried(nodes: Nodes, tmp_path: Path) -> None:
    """The error is the same as on this machine."""
    nodes.scale_to(isolated=1)
    model = bundle(tmp_path / "bundle", "raise KeyError('inside')")
    warnings: list[str] = []
    with pytest.raises(BadInput) as on_ray:
        answers(engine(model, warnings=warnings))
    with pytest.raises(BadInput) as local:
        ask(model, LIMITS)
    assert _timeless(on_ray.value) == _timeless(local.value)
    assert warnings == []


def test_answers_can_be_abandoned(nodes: Nodes, tmp_path: Path) -> None:
    """Closing the iterator early leaves nothing on the nodes, even in the middle of a batch."""
    nodes.scale_to(isolated=1)
    body = f"import time; 'Say word99' in prompts and time.sleep(60)\n{GOOD}"
    model = bundle(tmp_path / "bundle", body)
    found = engine(model).answer(batches(PROMPTS, 5), len(PROMPTS))
    for _ in zip(range(19), found, strict=False):
        pass
    started = time.monotonic()
    found.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 5


def test_all_nodes_share_the_work(nodes: Nodes, log: Path) -> None:
    """Every prompt is asked once, and an actor never has more than two batches."""
    nodes.scale_to(open=2)
    taken = 0

    def counted() -> Iterator[Batch]:
        nonlocal taken
        for batch in batches(PROMPTS, 5):
            taken += 1
            yield batch

    warnings: list[str] = []
    found = []
    both = f"while len(os.listdir({str(log)!r})) < 2: time.sleep(0.05)"
    ray = engine(logging_model(log, both), warnings=warnings)
    for answered in ray.answer(counted(), len(PROMPTS)):
        found.append(answered)
        time.sleep(0.05)
        assert taken <= len(found) + 4
    assert sorted(row for batch in found for row in batch.rows) == list(range(120))
    assert set(asked(log).values()) == {1}
    # A node has one CPU, so the two processes ran on two nodes.
    assert len(list(log.iterdir())) == len({batch.load_seconds for batch in found}) == 2
    assert {batch.isolation for batch in found} == {NONE}
    assert sum("NO ISOLATION" in text for text in warnings) == 1


def test_prod_refuses_a_node_without_isolation(nodes: Nodes, log: Path) -> None:
    """The node's isolation counts, not that of the machine that starts the evaluation."""
    nodes.scale_to(open=2)
    with pytest.raises(Refused, match=r"on the Ray node .*only in isolation"):
        answers(engine(logging_model(log), env=Env.PROD))
    assert asked(log) == {}


def test_a_bundle_that_changed_in_transit_is_not_evaluated(nodes: Nodes, log: Path) -> None:
    """Each node hashes the bundle that it received."""
    nodes.scale_to(open=2)
    ray = engine(logging_model(log))
    with (log.parent / "bundle" / "code" / "tiny_loader.py").open("a") as file:
        file.write("\n")
    with pytest.raises(SystemFailed, match=r"on the Ray node .* digest .* expected"):
        answers(ray)
    assert asked(log) == {}


def test_a_node_with_different_software_is_refused(
    nodes: Nodes, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers might differ there. Packages that only one side has are ignored."""
    nodes.scale_to(open=2)
    other = {**software(), "numpy": "0.1", "lynx-pipeline": "other", "only-here": "1"}
    monkeypatch.setattr(ray_engine, "software", lambda: other)
    message = r"different software: lynx-pipeline \w+ \(here: other\), numpy \S+ \(here: 0.1\)\."
    with pytest.raises(SystemFailed, match=message):
        answers(engine(logging_model(log)))
    assert asked(log) == {}


ALONE = """
import sys
from pathlib import Path
from lynx_pipeline_tests.sandbox.ray.test_engine import PROMPTS, batches, engine
for _ in engine(Path(sys.argv[1])).answer(batches(PROMPTS, 5), len(PROMPTS)):
    print("answered", flush=True)
"""


def test_a_killed_evaluation_leaves_nothing(nodes: Nodes, log: Path) -> None:
    """The driver process notices the end of the evaluation, and exits."""
    nodes.scale_to(open=2)
    command = [sys.executable, "-c", ALONE, str(logging_model(log))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as evaluation:
        assert evaluation.stdout
        assert evaluation.stdout.readline() == b"answered\n"
        evaluation.kill()
    assert_soon(lambda: not nodes.drivers())


def test_the_end_of_the_driver_process_is_an_error(nodes: Nodes, log: Path) -> None:
    """Ray ends the driver process when the cluster's head is gone."""
    nodes.scale_to(open=2)
    found = engine(logging_model(log)).answer(batches(PROMPTS, 5), len(PROMPTS))
    next(found)
    [driver] = nodes.drivers()
    os.kill(driver, 9)
    with pytest.raises(SystemFailed, match="Ray driver process ended"):
        list(found)


def test_a_batch_that_kills_its_workers_is_the_candidates_fault(nodes: Nodes, log: Path) -> None:
    """This model kills its actor, as one that uses up all memory would."""
    nodes.scale_to(open=2)
    model = logging_model(log, also="'Say word7' in prompts and os.kill(os.getppid(), 9)")
    warnings: list[str] = []
    with pytest.raises(BadInput, match="3 workers were lost while answering the same batch"):
        answers(engine(model, warnings=warnings, max_workers=1), PROMPTS[:20])
    # The previous batch is blamed if its answer was lost with the actor.
    assert 3 <= asked(log)["Say word7"] <= 5
    assert any("was lost" in text for text in warnings)


# After six batches, each process waits for a file beside the bundle.
WAITING = """\
global n
n = globals().get("n", 0) + 1
while n > 6 and not os.path.exists({go!r}): time.sleep(0.05)"""


@pytest.mark.parametrize("lost", ["actor", "node"])
def test_lost_batches_are_retried_elsewhere(
    nodes: Nodes, log: Path, local_evidence: Path, tmp_path: Path, lost: str
) -> None:
    """Only lost batches are answered again, and the predictions are equal byte for byte."""
    nodes.scale_to(open=2)
    model = logging_model(log, WAITING.format(go=f"{tmp_path}/go"))

    def kill(done: int, of: int) -> None:
        if done == 50:
            before = set(nodes.actors())
            nodes.lose(nodes.open[0]) if lost == "node" else os.kill(min(before), 9)
            assert_soon(lambda: not before <= set(nodes.actors()))
            (tmp_path / "go").touch()

    run(model, tmp_path, progress=kill)
    assert len(asked(log)) == 120
    assert 5 <= sum(times - 1 for times in asked(log).values()) <= 10
    assert (tmp_path / PREDICTIONS).read_bytes() == (local_evidence / PREDICTIONS).read_bytes()


def test_answers_are_kept_when_all_nodes_are_lost(
    nodes: Nodes, log: Path, local_evidence: Path, tmp_path: Path
) -> None:
    """The evaluation fails in bounded time, and resumes when there is a node again."""
    nodes.scale_to(open=1)
    model = logging_model(log, WAITING.format(go=f"{tmp_path}/go"))

    def kill(done: int, of: int) -> None:
        if done == 20:
            nodes.scale_to()

    started = time.monotonic()
    with pytest.raises(SystemFailed, match=r"no node of the Ray cluster started .* was lost"):
        run(model, tmp_path, limits=IMPATIENT, progress=kill)
    assert time.monotonic() - started < 40
    (tmp_path / "go").touch()
    before = asked(log)
    nodes.scale_to(open=1)
    progress: list[int] = []
    run(model, tmp_path, progress=lambda done, of: progress.append(done))
    assert 20 <= progress[0] <= 30
    assert sum((asked(log) - before).values()) == 120 - progress[0]
    assert (tmp_path / PREDICTIONS).read_bytes() == (local_evidence / PREDICTIONS).read_bytes()


def test_a_node_without_lynx_pipeline_is_reported(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install."""
    nodes.scale_to()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "lynx_pipeline.py").write_text("raise ImportError('not here')")
    monkeypatch.chdir(tmp_path)  # nodes can import from the folder in which Ray is started
    node = nodes.add(PYTHONPATH=str(tmp_path / "other"))
    with pytest.raises(SystemFailed, match=r"install 'lynx-pipeline\[ray\]' on every node"):
        answers(engine(bundle(tmp_path / "bundle")))
    nodes.lose(node)


def test_an_unreachable_cluster_fails_within_load_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself would try for minutes."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(SystemFailed, match="RAY_ADDRESS"):
        answers(engine(bundle(tmp_path / "bundle"), Limits(load_seconds=3)))
    assert time.monotonic() - started < 10


def test_without_ray_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray is an optional dependency."""

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match=r"pip install 'lynx-pipeline\[ray\]'"):
        answers(engine(bundle(tmp_path / "bundle")))
