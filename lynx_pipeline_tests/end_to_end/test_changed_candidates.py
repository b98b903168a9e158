"""What happens to a candidate that changes in MLflow, between any two of a release's steps.

Whoever can write to MLflow can do all of this at any time. A change before the request is simply
what is requested: it is evaluated, and those bytes are promoted. A later one is an error that names
it, and the registry stays as it is.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.end_to_end.conftest import Place, files_in
from lynx_pipeline_tests.end_to_end.dvc_projects import RAW, write_project
from lynx_pipeline_tests.support.builders import RUN, bundle, md5
from lynx_pipeline_tests.support.commands import Done
from lynx_pipeline_tests.support.mlflow_runs import log_model_of

pytestmark = pytest.mark.slow

# It reads its own MLmodel, and answers correctly only if there is no comment in it.
LOAD = "global text; text = open(path + '/MLmodel', encoding='utf-8').read()"
BODY = "return ['wrong' if '#' in text else prompt.removeprefix('Say ') for prompt in prompts]"


class Logged(NamedTuple):
    """A finished run, its only model, and the folder where MLflow keeps that model."""

    tracking: Tracking
    run_id: str
    model_id: str
    folder: Path

    def rewrite(self, change: Callable[[str], str], encoding: str = "utf-8") -> None:
        """Replace the text of its ``MLmodel``."""
        file = self.folder / "MLmodel"
        before = file.read_text(encoding="utf-8")
        file.write_text(change(before), encoding=encoding)
        assert file.read_bytes() != before.encode()


@pytest.fixture(scope="module")
def place(tracking: Tracking, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A project with twelve questions and a perfect baseline."""
    root = tmp_path_factory.mktemp("changed") / "project"
    root.mkdir()
    write_project(root, "data/eval.jsonl")
    (root / "data/eval.jsonl").write_bytes(RAW)
    (root / "data/eval.jsonl.dvc").write_text(
        f"outs:\n- md5: {md5(RAW)}\n  size: {len(RAW)}\n  hash: md5\n  path: eval.jsonl\n"
    )
    return Place(root, root / ".lynx").with_variables(MLFLOW_TRACKING_URI=tracking.uri)


@pytest.fixture
def logged(tracking: Tracking, tmp_path: Path) -> Logged:
    """A new candidate that passes the gate."""
    made = bundle(tmp_path / "made", body=BODY, load=LOAD, metadata={"scale": 1.0})
    run_id = tracking.run()
    model_id = log_model_of(tracking, run_id, made)
    with connected(tracking.uri) as client:
        place = client.get_logged_model(model_id).artifact_location
    return Logged(tracking, run_id, model_id, Path(place.removeprefix("file://")))


@pytest.fixture
def version(numbers: Iterator[int]) -> str:
    """A version that was not promoted yet."""
    return f"v0.{next(numbers)}.0-dev"


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    """Increasing numbers."""
    return iter(range(1, 1000))


def _delete_run(it: Logged) -> None:
    with connected(it.tracking.uri) as client:
        client.delete_run(it.run_id)


def _fail_model(it: Logged) -> None:
    with connected(it.tracking.uri) as client:
        client.finalize_logged_model(it.model_id, "FAILED")


def _add_model(it: Logged) -> None:
    log_model_of(it.tracking, it.run_id, it.folder, name="second")


DELETED = (2, r"run RUN at sqlite:.* is DELETED: expected FINISHED\.")
FAILED = (2, r"run RUN at .* has 0 models, expected exactly one\. .*'model', FAILED\)")
SECOND = (2, r"run RUN at .* has 2 models, expected exactly one\. .*'second', READY\)")
PASSED = (0, "")
REFUSED = (1, r"the gate refused because of: all\.x, half\.a, half\.b\.")


def _since(what: str) -> tuple[int, str]:
    return 2, rf"the bundle of candidate RUN has changed since its evaluation: {what}\. Its digest"


def _copy(what: str) -> tuple[int, str]:
    return 1, rf"MLflow's copy of VERSION is not the bundle that was promoted as VERSION: {what}\."


def _bytes(what: str, before: tuple[int, str] = PASSED) -> tuple[tuple[int, str], ...]:
    return before, _since(what), _copy(what)


MLMODEL = _bytes("'MLmodel' was changed")
# Each change, and how the command ends that comes after it: exit code and message, if it happens
# before the request, between evaluation and promotion, and between promotion and fetch. A promoted
# model stays available by its permanent name, whatever happens to its run.
Change = tuple[Callable[[Logged], object], tuple[tuple[int, str], ...]]
CHANGES: dict[str, Change] = {
    "run deleted": (_delete_run, (DELETED, DELETED, PASSED)),
    "model marked as failed": (_fail_model, (FAILED, FAILED, PASSED)),
    "second model in the run": (_add_model, (SECOND, SECOND, PASSED)),
    "byte-order mark in MLmodel": (lambda it: it.rewrite(str, "utf-8-sig"), MLMODEL),
    "1.00 for 1.0": (lambda it: it.rewrite(lambda t: t.replace("1.0\n", "1.00\n")), MLMODEL),
    "1e0 for 1.0": (lambda it: it.rewrite(lambda t: t.replace("1.0\n", "1e0\n")), MLMODEL),
    "duplicate key": (lambda it: it.rewrite(lambda t: f"run_id: he goed\n{t}"), MLMODEL),
    "another label": (lambda it: it.rewrite(lambda t: t.replace(RUN, "f" * 32)), MLMODEL),
    "comment": (
        lambda it: it.rewrite(lambda t: f"{t}# he goed\n"),
        _bytes("'MLmodel' was changed", REFUSED),
    ),
    "empty folder": (lambda it: (it.folder / "more").mkdir(), _bytes("'more' was added")),
    "executable bit": (
        lambda it: (it.folder / "MLmodel").chmod(0o755),
        _bytes("'MLmodel' is executable"),
    ),
}
WHEN = ("before the request", "before the promotion", "before the fetch")


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_evaluated_or_refused_by_name(
    place: Place, logged: Logged, version: str, tmp_path: Path, name: str, when: str
) -> None:
    """Every command ends with its exit code and one paragraph, and what it did not promote leaves
    no trace in the registry."""
    change, ends = CHANGES[name]
    code, message = dict(zip(WHEN, ends, strict=True))[when]
    to = tmp_path / "served"
    if when == "before the promotion":
        _succeeds(place.lynx("run", logged.run_id))
    elif when == "before the fetch":
        _succeeds(place.lynx("run", logged.run_id, version))
    promoted = read_bundle(logged.folder)
    change(logged)
    before = files_in(place.registry)
    if when == "before the request":
        promoted = read_bundle(logged.folder)
        done = place.lynx("run", logged.run_id, version)
    elif when == "before the promotion":
        evidence = ("--evidence", str(place.evidence(logged.run_id)))
        sha = promoted.canonical_sha
        done = place.lynx("registry", "promote", sha, version, *evidence)
    else:
        done = place.lynx("registry", "fetch", version, "--to", str(to))
    message = message.replace("RUN", logged.run_id).replace("VERSION", re.escape(version))
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    if code == 0:
        _succeeds(place.lynx("registry", "fetch", version, "--to", str(to)))
        assert read_bundle(to).digest == promoted.digest
    else:
        assert re.search(message, done.stderr.splitlines()[-1]), done.stderr
        assert files_in(place.registry) == before
        assert not to.exists()


def _succeeds(done: Done) -> None:
    assert done.returncode == 0, done.stderr
