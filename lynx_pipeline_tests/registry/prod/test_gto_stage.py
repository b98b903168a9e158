"""The setting ``gto_stage``: GTO's stage follows the latest version of prod."""

from pathlib import Path

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline.config import load_settings
from lynx_pipeline.errors import SystemFailed
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.mirror import mirror
from lynx_pipeline_tests.registry.prod.conftest import PYPROJECT, Prod
from lynx_pipeline_tests.support.gto import gto
from lynx_pipeline_tests.support.places import OnGit
from lynx_pipeline_tests.support.world import Made

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("prod", ["git"], indirect=True),
]

REJECTS_STAGES = 'case "$1" in refs/tags/*"#"*) echo "no stages today" >&2; exit 1;; esac'


@pytest.fixture
def staged(prod: Prod, monkeypatch: pytest.MonkeyPatch) -> Prod:
    """The project with the setting, in the job that may promote."""
    prod.edit(PYPROJECT, 'registry = "', 'gto_stage = "production"\nregistry = "')
    prod.commit()
    prod.issue_tokens_for_head()
    monkeypatch.setenv("LYNX_ENV", "prod")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", prod.tracking.uri)
    monkeypatch.chdir(prod.root)
    return prod


def place(it: Prod) -> OnGit:
    """The registry's repository."""
    assert isinstance(it.place, OnGit)
    return it.place


def promote(made: Made, semver: str) -> int:
    """Promote as the job does."""
    return main(["registry", "promote", made.sha, semver, "--evidence", str(made.evidence)])


def shown(it: Prod) -> dict[str, str]:
    """The version in each stage, as GTO shows it."""
    (found,) = gto(place(it).bare, "show").values()
    stages: dict[str, str] = found["stage"]
    return stages


def test_the_stage_follows_promotions_and_rollbacks(staged: Prod) -> None:
    """A repeated promotion or mirror adds no tag, and readers are not disturbed."""
    first, second = staged.candidate("one"), staged.candidate("two")
    assert promote(first, "v0.1.0") == 0
    assert shown(staged) == {"production": "v0.1.0"}
    assert promote(second, "v0.2.0") == promote(second, "v0.2.0") == 0
    assert shown(staged) == {"production": "v0.2.0"}
    assert main(["registry", "rollback", "v0.1.0"]) == 0
    assert shown(staged) == {"production": "v0.1.0"}
    registry = Registry.open(load_settings())
    assert mirror(registry)["gto_stage"] == "tiny#production#3"
    stages = [tag for tag in place(staged).tags() if "#" in tag]
    assert stages == [f"tiny#production#{number}" for number in (1, 2, 3)]
    assert main(["registry", "verify"]) == 0
    assert registry.resolve().semver == "v0.1.0"


def test_a_rejected_stage_is_a_warning(staged: Prod, capsys: pytest.CaptureFixture[str]) -> None:
    """The promotion holds, MLflow's alias is updated, and the next mirror assigns the stage."""
    made = staged.candidate("one")
    hook = place(staged).hook("update", REJECTS_STAGES)
    assert promote(made, "v0.1.0") == 0
    warning = capsys.readouterr().err
    assert "WARNING: the registry has changed, but not all that mirrors it: " in warning
    assert "rejected the tag tiny#production#1" in warning
    assert "no stages today" in warning
    registry = Registry.open(load_settings())
    assert registry.resolve().semver == "v0.1.0"
    with pytest.raises(SystemFailed, match="no stages today"):
        mirror(registry)
    hook.unlink()
    assert mirror(registry)["gto_stage"] == "tiny#production#1"


def test_the_stage_is_assigned_although_mlflow_fails(
    staged: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert promote(staged.candidate("one"), "v0.1.0") == 0
    assert promote(staged.candidate("two"), "v0.2.0") == 0
    assert main(["registry", "rollback", "v0.1.0"]) == 0
    place(staged).git("tag", "--delete", "tiny#production#3")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////dev/null/mlflow.db")
    with pytest.raises(SystemFailed, match="the folder /dev/null can't be created"):
        mirror(Registry.open(load_settings()))
    assert shown(staged) == {"production": "v0.1.0"}


def test_dev_assigns_no_stage(staged: Prod, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage is that of prod."""
    monkeypatch.setenv("LYNX_ENV", "dev")
    assert load_settings(Path.cwd()).gto_stage == ""
    assert promote(staged.candidate("one"), "v0.1.0-dev") == 0
    assert not any("#" in tag for tag in place(staged).tags())
