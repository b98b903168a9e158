"""``LYNX_ENV=prod``: no command or API promotes on a developer's machine, but the same checkout
promotes in the CI job."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lynx_pipeline.adapters import mlflow_tracking
from lynx_pipeline.evaluation.candidate import SEMVER_TAG
from lynx_pipeline_tests.end_to_end import library_routes
from lynx_pipeline_tests.end_to_end.conftest import Demo, Place, asset, clone, files_in, job
from lynx_pipeline_tests.end_to_end.webserver import running as webserver
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.fake_issuer import WORKFLOW_REF, FakeIssuer, running
from lynx_pipeline_tests.support.places import git

pytestmark = pytest.mark.slow

REFUSAL = "prod is changed only by the CI workflow's verified identity"


def checkout(demo: Demo, issuer: FakeIssuer, folder: Path) -> Place:
    """A committed clone with a registry, a policy and an ``origin``, in prod and with a CI runner's
    variables. The demo's good candidate requests ``v0.1.0``."""
    root = clone(folder / "clone")
    file = root / "pyproject.toml"
    text = re.sub(r"(?m)^registry = .*\n", "", file.read_text())
    text = re.sub(r"(?ms)^\[tool\.lynx_pipeline\.identity\]\n.*?(?=^\[|\Z)", "", text)
    table = "[tool.lynx_pipeline]\n"
    text = text.replace(table, f'{table}registry = "registry"\n')
    text = re.sub(r"(?ms)^judges = \[.*?^\]", 'judges = [".github"]', text)
    file.write_text(f"{text}\n{issuer.table()}")
    workflow = root / issuer.policy().workflow
    workflow.parent.mkdir(parents=True)
    workflow.touch()
    with (root / ".gitignore").open("a") as ignored:
        ignored.write("/registry/\n")
    shutil.copytree(demo.place.registry, root / "registry")
    git(folder, "init", "--quiet", "--bare", "origin.git")
    git(root, "remote", "add", "origin", f"file://{folder / 'origin.git'}")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "x")
    git(root, "push", "--quiet", "origin", "HEAD:refs/heads/main")
    place = Place(root, demo.copy(folder / "home").home).with_variables(
        LYNX_ENV="prod",
        LYNX_REGISTRY=str(folder / "elsewhere"),
        GITHUB_ACTIONS="true",
        CI="true",
    )
    mlflow_tracking.tag_run(place.settings.tracking_uri, demo.good, SEMVER_TAG, "v0.1.0")
    return place


@pytest.fixture(scope="module")
def prod(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A checkout on a developer's machine, whose policy trusts a running issuer."""
    with running() as issuer:
        yield checkout(demo, issuer, tmp_path_factory.mktemp("prod"))


def test_dagster_promotes_nothing_in_prod(prod: Place, demo: Demo, tmp_path: Path) -> None:
    """The job and the asset alone fail for a candidate that the gate would pass."""
    before = files_in(prod.registry)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"ops": {"promotion_decision": {"config": {"semver": "v0.1.0"}}}}))
    for arguments in (job("promote", demo.good), asset("promotion_decision", demo.good)):
        done = prod.dagster(*arguments, "-c", str(config))
        assert done.returncode != 0
        assert REFUSAL in done.stdout + done.stderr
    assert files_in(prod.registry) == before
    assert not Path(prod.environ["LYNX_REGISTRY"]).exists()


def test_the_ui_promotes_nothing_in_prod(prod: Place, demo: Demo, tmp_path: Path) -> None:
    """The job, and the asset without its checks, both fail because there is no identity."""
    before = files_in(prod.registry)
    with webserver(prod, tmp_path / "log") as ui:
        runs = [
            ui.launch("promote", demo.good),
            ui.launch("eval_and_promote", demo.good, "promotion_decision"),
        ]
        assert [ui.ended(run) for run in runs] == ["FAILURE", "FAILURE"]
    with prod.instance() as instance:
        for run in runs:
            events = [log.dagster_event for log in instance.all_logs(run) if log.dagster_event]
            (failed,) = [event for event in events if event.is_step_failure]
            assert REFUSAL in str(failed.step_failure_data.error)
    assert files_in(prod.registry) == before


def test_no_library_call_promotes_in_prod(prod: Place, demo: Demo) -> None:
    """This covers Dagster's Python API, with and without checks, and the registry's API."""
    before = files_in(prod.registry)
    done = prod.run(sys.executable, library_routes.__file__, demo.good)
    ended = json.loads(done.stdout)
    assert len(ended) == 2
    assert all(message.startswith(REFUSAL) for message in ended.values()), ended
    call = (
        "import pathlib, sys; from lynx_pipeline import registry; "
        "registry.promote(sys.argv[1], 'v0.1.0', evidence=pathlib.Path(sys.argv[2]))"
    )
    done = prod.run(sys.executable, "-c", call, _sha(prod), str(prod.evidence(demo.good)))
    assert done.returncode == 1
    assert f"Refused: {REFUSAL}" in done.stderr
    assert files_in(prod.registry) == before


def _sha(place: Place) -> str:
    """The sha of the bundle that the demo promoted in dev."""
    first = (place.registry / "index.jsonl").read_bytes().splitlines()[0]
    return str(json.loads(first)["canonical_sha"])


def test_the_command_line_changes_nothing_in_prod(prod: Place, demo: Demo) -> None:
    """Promote (with and without evidence), roll back and register fail with exit code 1."""
    before = files_in(prod.registry)
    sha = _sha(prod)
    for arguments in (
        ("promote", sha, "v0.1.0", "--evidence", str(prod.evidence(demo.good))),
        ("promote", sha, "v0.1.0"),
        ("rollback", "v0.1.0"),
        ("register", demo.good),
    ):
        done = prod.lynx("registry", *arguments)
        assert done.returncode == 1, arguments
        assert REFUSAL in done.stderr
    assert files_in(prod.registry) == before
    assert prod.lynx("demo").returncode == 1


def test_prod_does_not_resolve_what_dev_promoted(prod: Place) -> None:
    """A dev entry in the ledger is invisible to a serving process in prod."""
    for version in ("latest", "v0.1.0-dev"):
        done = prod.lynx("registry", "resolve", version)
        assert (done.returncode, done.stdout) == (1, "")


def test_the_workflow_promotes_in_prod(demo: Demo, issuer: FakeIssuer, tmp_path: Path) -> None:
    """With a valid job token, the same checkout is promoted, listed, resolved and audited.

    On a machine without isolation, the demo's evidence is refused instead.
    """
    machine = checkout(demo, issuer, tmp_path)
    issuer.changes["sha"] = head = git(machine.root, "rev-parse", "HEAD")
    evidence = json.loads((machine.evidence(demo.good) / "candidate_eval.json").read_bytes())
    before = files_in(machine.registry)
    done = machine.with_variables(**issuer.job).dagster(*job("promote", demo.good))
    if evidence["isolation"] != "bubblewrap":
        assert done.returncode != 0
        assert "evaluated with isolation" in done.stdout + done.stderr
        assert files_in(machine.registry) == before
        return
    assert done.returncode == 0, done.stderr
    # The same evidence is kept once; added are the gate's signed result and the signatures.
    assert len(files_in(machine.registry)) == len(before) + 2

    (entry,) = json.loads(machine.lynx("registry", "list", "--env", "prod", "--json").stdout)
    assert (entry["seq"], entry["semver"], entry["env"]) == (2, "v0.1.0", "prod")
    assert entry["mlflow_run_id"] == demo.good
    assert (entry["actor"]["workflow_ref"], entry["actor"]["sha"]) == (WORKFLOW_REF, head)
    for version in ("latest", "v0.1.0"):
        resolved = machine.lynx("registry", "resolve", version, "--json")
        assert json.loads(resolved.stdout)["canonical_sha"] == entry["canonical_sha"]
    audit = machine.lynx("audit", "v0.1.0")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert "Audit passed" in audit.stdout
    assert WORKFLOW_REF in audit.stdout
    assert (
        machine.with_variables(LYNX_ENV="dev").lynx("registry", "resolve", "v0.1.0").returncode == 1
    )


@pytest.mark.parametrize("value", ["Prod", "prod ", ""])
def test_an_unknown_environment_is_an_error(tmp_path: Path, value: str) -> None:
    """It is never treated as dev: Dagster's commands and ours fail with the expected values."""
    place = Place(REPO, tmp_path / "home").with_variables(LYNX_ENV=value)
    done = place.lynx("registry", "list")
    assert done.returncode == 2
    assert f"LYNX_ENV is {value!r}: expected exactly 'dev' or 'prod'" in done.stderr
    if value == "Prod":
        done = place.dagster(*job("promote", "0" * 32))
        assert done.returncode != 0
        assert f"LYNX_ENV is {value!r}: expected exactly 'dev' or 'prod'" in done.stderr
    assert not place.home.exists()
