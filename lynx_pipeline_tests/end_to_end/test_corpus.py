"""A project with a corpus, from the real commands: real git, DVC, MLflow and Dagster."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.end_to_end.conftest import Place, asset, files_in, job
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.builders import JsonObject, bundle, jsonl, md5, project, sha256
from lynx_pipeline_tests.support.corpora import FILE, LEAKED, LINES, configure_corpus
from lynx_pipeline_tests.support.places import git

pytestmark = pytest.mark.slow

V = "v0.1.0-dev"
CONFIG = json.dumps({"ops": {"promotion_decision": {"config": {"semver": V}}}})
CHECKS = ("eval_set_not_in_corpus", "eval_set_represents_corpus")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tracking: Tracking) -> Place:
    """A project in git and DVC, whose data is also on a remote, and a requested candidate."""
    root = tmp_path_factory.mktemp("corpus") / "root"
    project(root)
    shutil.copy(REPO / "dagster.yaml", root)
    git(root, "init", "--quiet")
    place = Place(root, root / ".lynx", {"MLFLOW_TRACKING_URI": tracking.uri})
    for command in (
        "dvc init -q",
        "dvc config core.analytics false",
        "dvc remote add -q -d here remote",
        "dvc add -q data/eval.jsonl",
        "dvc push -q",
    ):
        done = place.run(*command.split())
        assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module")
def candidate(tracking: Tracking, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A candidate's run id. It answers every question correctly."""
    return tracking.run({"model": bundle(tmp_path_factory.mktemp("model") / "bundle")})


@pytest.fixture
def place(template: Place, candidate: str, tmp_path: Path) -> Place:
    """A copy of the project that a test may change."""
    root = tmp_path / "root"
    shutil.copytree(template.root, root, symlinks=True)
    it = Place(root, root / ".lynx", template.variables)
    done = it.lynx("request", "--run-id", candidate, "--semver", V)
    assert done.returncode == 0, done.stderr
    return it


def track(place: Place, lines: Iterable[JsonObject] | bytes, checks: str) -> bytes:
    """Put a corpus under DVC, and name it in the settings."""
    raw = lines if isinstance(lines, bytes) else jsonl(lines)
    (place.root / FILE).unlink(missing_ok=True)
    (place.root / FILE).write_bytes(raw)
    added = place.run("dvc", "add", "-q", FILE)
    assert added.returncode == 0, added.stderr
    configure_corpus(place.root, checks)
    return raw


def promote(place: Place, candidate: str) -> tuple[int, str]:
    """The whole job, as CI runs it: its exit code and output."""
    config = place.root / "run.json"
    config.write_text(CONFIG)
    done = place.dagster(*job("eval_and_promote", candidate), "--config", str(config))
    return done.returncode, done.stdout + done.stderr


def evaluation(place: Place, candidate: str) -> JsonObject:
    """The stored evaluation."""
    found: JsonObject = json.loads((place.evidence(candidate) / "candidate_eval.json").read_bytes())
    return found


def test_warnings_stop_nothing_and_are_shown(place: Place, candidate: str) -> None:
    """In the UI, the report, the entry and the audit. With another corpus the stored answers are
    reused."""
    raw = track(place, [*LINES, LEAKED], "warn")
    code, output = promote(place, candidate)
    assert code == 0, output
    for name in CHECKS:
        found = place.checked("eval_set", name).found
        assert (found.passed, found.severity.value, found.blocking) == (
            name == CHECKS[1],
            "WARN",
            False,
        )
    shown = place.checked("eval_set", CHECKS[0]).found
    assert shown.metadata["prompts_found"].value == 1
    assert "'i3' ('Say word3')" in (shown.description or "")
    report = place.evidence(candidate).with_name("report.md").read_text()
    assert "1 of the 12 questions are in the corpus of 11 lines" in report
    digests = {"corpus_dvc_hash": md5(raw), "corpus_sha256": sha256(raw)}
    assert evaluation(place, candidate).items() >= digests.items()
    (entry,) = json.loads(place.lynx("registry", "list", "--json").stdout)
    assert entry["evidence"].items() >= digests.items()
    audited = place.lynx("audit", V)
    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert "1 of the 12 questions are in the corpus" in audited.stdout

    raw = track(place, LINES, "warn")
    done = place.dagster(*job("evaluate", candidate))
    assert done.returncode == 0, done.stderr
    assert evaluation(place, candidate)["corpus_sha256"] == sha256(raw)
    assert place.latest("candidate_eval", candidate).metadata["kept_from_before"].value is True


def test_blocking_checks_refuse_by_every_route(place: Place, candidate: str) -> None:
    """The check stops the job. The promotion refuses by itself where the check is skipped."""
    track(place, [*LINES, LEAKED], "blocking")
    code, output = promote(place, candidate)
    assert code == 1, output
    found = place.checked("eval_set", CHECKS[0]).found
    assert (found.passed, found.severity.value, found.blocking) == (False, "ERROR", True)
    assert not place.evidence(candidate).exists()
    outcome = place.lynx("ci", "outcome", candidate, "--output", str(place.root / "out"))
    assert outcome.returncode == 1
    assert outcome.stderr == (
        f"lynx-pipeline: {CHECKS[0]}: {found.description} Nothing was changed.\n"
    )
    for name in ("candidate_bundle", "candidate_eval"):
        done = place.dagster(*asset(name, candidate))
        assert done.returncode == 0, done.stderr
    done = place.dagster(*asset("promotion_decision", candidate), "--config-json", CONFIG)
    assert done.returncode == 1
    assert (
        "the corpus checks refused: 1 of the 12 questions are in the" in done.stdout + done.stderr
    )
    by_hand = place.lynx("registry", "list")
    assert by_hand.returncode == 0
    assert not place.registry.exists()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'\xef\xbb\xbf{"prompt": "a"}\n', "but this is UTF-8 with a byte-order mark"),
        (b'{"prompt": "a", "buckets": {"x": "y"}}\n', "the eval set has no dimension 'x'"),
        (None, "corpus.jsonl: DVC could not pull it from the remote 'here' ("),
    ],
    ids=["byte-order mark", "dimension", "missing"],
)
def test_a_bad_corpus_stops_the_run(
    place: Place, candidate: str, raw: bytes | None, message: str
) -> None:
    """With its cause. Nothing is evaluated or promoted."""
    track(place, LINES if raw is None else raw, "warn")
    if raw is None:  # never pushed
        (place.root / FILE).unlink()
        shutil.rmtree(place.root / ".dvc/cache")
    before = files_in(place.root / "data")
    code, output = promote(place, candidate)
    assert code == 1
    assert message in output
    assert not place.registry.exists()
    assert files_in(place.root / "data") == before
