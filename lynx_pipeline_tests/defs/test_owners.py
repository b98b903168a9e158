"""The owners that the UI shows for an asset."""

from pathlib import Path

import pytest

from lynx_pipeline.defs.assets import build_assets
from lynx_pipeline.defs.gate import PROJECT
from lynx_pipeline.defs.owners import with_owners
from lynx_pipeline_tests.support import REPO

PYPROJECT = REPO / "pyproject.toml"
INPUTS = ["eval_baseline", "eval_set"]
IDENTITY = """
[tool.lynx_pipeline.identity]
issuer = "https://token.actions.githubusercontent.com"
audience = "lynx-pipeline"
repository_id = "74"
repository_owner_id = "65"
workflow = ".github/workflows/deploy-grammar-tutor.yml"
environment = "production"
events = ["issue_comment"]
"""
CODEOWNERS = """* @Everybody
/eval_baseline.json @judge @acme/teams-have-no-say
/.github/workflows/ @shipper @Another
"""


def owners() -> dict[str, list[str]]:
    """The owners of each asset, as the definitions in the working directory get them."""
    return {
        spec.key.to_user_string(): list(spec.owners)
        for it in with_owners(PROJECT, build_assets(PROJECT))
        for spec in it.specs
    }


def test_owners_come_from_codeowners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Approvers own the inputs. People who may request a promotion own everything else."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT.read_text() + IDENTITY)
    (tmp_path / ".github").mkdir()
    (tmp_path / ".github/CODEOWNERS").write_text(CODEOWNERS)
    monkeypatch.chdir(tmp_path)
    found = owners()
    assert {name for name, owned in found.items() if owned == ["team:judge"]} == set(INPUTS)
    assert {tuple(owned) for name, owned in found.items() if name not in INPUTS} == {
        ("team:another", "team:shipper")
    }


def test_without_an_identity_policy_only_inputs_have_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the policy no workflow may promote, so nobody may request it."""
    (tmp_path / "pyproject.toml").write_bytes(PYPROJECT.read_bytes())
    (tmp_path / "CODEOWNERS").write_text(CODEOWNERS)
    monkeypatch.chdir(tmp_path)
    assert {name for name, owned in owners().items() if owned} == set(INPUTS)


def test_without_codeowners_no_asset_has_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The definitions also load outside a project."""
    monkeypatch.chdir(tmp_path)
    assert {tuple(owned) for owned in owners().values()} == {()}
    (tmp_path / "pyproject.toml").write_bytes(PYPROJECT.read_bytes())
    assert {tuple(owned) for owned in owners().values()} == {()}
