"""``LYNX_ENV=prod`` on a developer's machine: nothing that is launched there promotes."""

import json
import shutil
from pathlib import Path

import pytest

from lynx_pipeline_tests.end_to_end.conftest import REPO, Demo, Place, asset, clone, files_in, job

pytestmark = pytest.mark.slow

REFUSAL = "prod is changed only by the CI workflow's verified identity"


@pytest.fixture(scope="module")
def prod(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A clone whose ``pyproject.toml`` names a registry, in prod, dressed up as a CI runner."""
    folder = tmp_path_factory.mktemp("prod")
    root = clone(folder / "clone")
    file = root / "pyproject.toml"
    table = "[tool.lynx_pipeline]\n"
    file.write_text(file.read_text().replace(table, f'{table}registry = "registry"\n'))
    shutil.copytree(demo.place.registry, root / "registry")
    return Place(root, demo.copy(folder / "home").home).but(
        LYNX_ENV="prod",
        LYNX_REGISTRY=str(folder / "elsewhere"),
        GITHUB_ACTIONS="true",
        CI="true",
    )


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


def test_the_command_line_changes_nothing_in_prod(prod: Place, demo: Demo) -> None:
    """Promote, with evidence and without, roll back and register: exit code 1, and why."""
    before = files_in(prod.registry)
    sha = json.loads((prod.registry / "index.jsonl").read_bytes())["canonical_sha"]
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


@pytest.mark.parametrize("value", ["Prod", "prod ", ""])
def test_an_environment_that_is_neither_is_an_error(tmp_path: Path, value: str) -> None:
    """It is never read as dev: Dagster's commands and ours stop and say what is expected."""
    place = Place(REPO, tmp_path / "home").but(LYNX_ENV=value)
    done = place.lynx("registry", "list")
    assert done.returncode == 2
    assert f"LYNX_ENV is {value!r}: expected dev or prod" in done.stderr
    if value == "Prod":
        done = place.dagster(*job("promote", "0" * 32))
        assert done.returncode != 0
        assert f"LYNX_ENV is {value!r}: expected dev or prod" in done.stderr
    assert not place.home.exists()
