"""A pipeline on GitLab promotes in prod with its own identity, and nobody else there does."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline.config import load_settings
from lynx_pipeline.domain.ledger.facts import Actor
from lynx_pipeline.errors import Refused
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.announcement import announcement
from lynx_pipeline.registry.audit import audit
from lynx_pipeline_tests.registry.prod.conftest import PYPROJECT, Prod
from lynx_pipeline_tests.support import fake_gitlab
from lynx_pipeline_tests.support.fake_issuer import (
    KID,
    gitlab_claims,
    gitlab_policy,
    mint,
    policy_table,
    rs,
)
from lynx_pipeline_tests.support.gitlab_page import pipeline
from lynx_pipeline_tests.support.world import Made

pytestmark = pytest.mark.slow

CONFIG = ".gitlab-ci.yml"


@pytest.fixture
def gitlab(prod: Prod, monkeypatch: pytest.MonkeyPatch) -> Prod:
    """The project on GitLab, checked out in the job that may promote it."""
    for name in os.environ:
        if name.startswith(("GITHUB_", "ACTIONS_")):
            monkeypatch.delenv(name)
    text = (prod.root / PYPROJECT).read_text()
    head = text.partition("[tool.lynx_pipeline.identity]")[0]
    table = policy_table(gitlab_policy(issuer=prod.issuer.url))
    prod.write(PYPROJECT, head.replace('[".github"]', f'["{CONFIG}", ".gitlab"]') + table)
    prod.write(CONFIG, "promote: {script: [lynx-pipeline registry promote]}\n")
    (prod.root / ".gitlab").mkdir()
    prod.write(".gitlab/CODEOWNERS", "* @octocat\n")
    prod.commit()
    monkeypatch.setenv("LYNX_ENV", "prod")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", prod.tracking.uri)
    monkeypatch.chdir(prod.root)
    return prod


def token(it: Prod, **changes: Any) -> str:
    """The token of a job for the checked-out commit."""
    claims = gitlab_claims(iss=it.issuer.url, **{"sha": it.git("rev-parse", "HEAD"), **changes})
    return mint({"alg": "RS256", "kid": KID, "typ": "JWT"}, claims, rs())


def test_the_pipeline_promotes_and_the_audit_passes(
    gitlab: Prod, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command that its job runs. A second use of the token is refused."""
    good = gitlab.candidate("good")
    command = ["registry", "promote", good.sha, "v0.1.0", "--evidence", str(good.evidence)]
    assert main(command) == 1
    assert "this is not a job with an identity" in capsys.readouterr().err
    monkeypatch.setenv("LYNX_ID_TOKEN", token(gitlab))
    assert main(command) == 0
    registry = Registry.open(load_settings())
    actor = registry.promoted("v0.1.0").fact.actor
    assert isinstance(actor, Actor)
    assert actor.actor == "octocat"
    host = gitlab.issuer.url.partition("://")[2]
    assert actor.workflow_ref == f"{host}/octo-org/octo-repo//{CONFIG}@refs/heads/main"
    page = f"{gitlab.issuer.url}/octo-org/octo-repo/-/pipelines/9876543210"
    promotion = registry.promoted("v0.1.0")
    assert announcement(promotion, registry.settings.identity)[1].endswith(page)
    assert "http" not in announcement(promotion, gitlab_policy())[1]
    found = audit(registry, "v0.1.0")
    assert found.findings == ()
    with pytest.raises(Refused, match="claim 'jti'"):
        registry.promote(good.sha, "v0.2.0", evidence=good.evidence)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"ref_protected": "false"}, "claim 'ref_protected'", id="branch"),
        pytest.param({"environment": "review"}, "claim 'environment'", id="environment"),
        pytest.param({"pipeline_source": "merge_request_event"}, "'pipeline_source'", id="source"),
        pytest.param({"project_id": "75"}, "claim 'project_id'", id="fork"),
        pytest.param({"aud": "https://vault"}, "claim 'aud'", id="audience"),
        pytest.param({"exp": 1}, "claim 'exp'", id="expired"),
    ],
)
def test_another_job_is_refused(
    gitlab: Prod, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    good = gitlab.candidate("good")
    monkeypatch.setenv("LYNX_ID_TOKEN", token(gitlab, **changes))
    with pytest.raises(Refused, match=re.escape(message)):
        Registry.open(load_settings()).promote(good.sha, "v0.1.0", evidence=good.evidence)
    assert gitlab.place.all() == {}


def test_the_pipelines_configuration_and_owners_are_judges(
    gitlab: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of them since the job's commit stops the promotion, and so does a list without."""
    good = gitlab.candidate("good")
    monkeypatch.setenv("LYNX_ID_TOKEN", token(gitlab))
    commit = gitlab.git("rev-parse", "HEAD")
    gitlab.write(CONFIG, "promote: {script: [true]}\n")
    gitlab.commit()
    gitlab.git("checkout", "--quiet", commit)
    registry = Registry.open(load_settings())
    with pytest.raises(Refused, match=f"which changes {CONFIG}: "):
        registry.promote(good.sha, "v0.1.0", evidence=good.evidence)
    gitlab.git("checkout", "--quiet", "main")
    gitlab.edit(PYPROJECT, f'"{CONFIG}", ".gitlab"', '"data"')
    gitlab.commit()
    monkeypatch.setenv("LYNX_ID_TOKEN", token(gitlab))
    missing = f'Write judges = ["data", "{CONFIG}", ".gitlab/CODEOWNERS"]'
    with pytest.raises(Refused, match=re.escape(missing)):
        Registry.open(load_settings()).promote(good.sha, "v0.1.0", evidence=good.evidence)
    assert gitlab.place.all() == {}


def run(it: Prod, job: str, candidate: str, semver: str, **variables: str) -> int:
    """Run the lines of a job of the page's pipeline, which has installed the package, in a shell.
    Returns its exit code."""
    found = pipeline()[job]["script"]
    lines = [line for line in found if not line.startswith(".github/lynx-pipeline/install")]
    given = {"RUN_ID": candidate, "SEMVER": semver, "MERGE_REQUEST": "7", **variables}
    done = subprocess.run(
        ["sh", "-euc", "\n".join(lines).replace(".venv/bin", str(Path(sys.executable).parent))],
        cwd=it.root,
        env={**os.environ, **given},
        check=False,
    )
    return done.returncode


def deploy(it: Prod, made: Made, semver: str, number: int, api: fake_gitlab.FakeGitLab) -> int:
    """Run the jobs after the evaluation as a pipeline. Returns the exit code of ``promote``."""
    shutil.rmtree(it.root / "evidence", ignore_errors=True)
    (it.root / "promotion.json").unlink(missing_ok=True)
    if made.evidence.exists():
        shutil.copytree(made.evidence, it.root / "evidence")
    given = {"LYNX_ID_TOKEN": token(it, pipeline_id=str(number))}
    code = run(it, "promote", made.run_id, semver, **given)
    if code != 0:  # GitLab keeps no files of a job that failed
        (it.root / "promotion.json").unlink(missing_ok=True)
    variables = {**api.job, "CI_PIPELINE_ID": str(number)}
    assert run(it, "report", made.run_id, semver, **variables) == 0
    return code


def test_the_merge_request_gets_one_note_with_the_result(gitlab: Prod) -> None:
    """Promoted, refused with the table, or stopped; each pipeline updates the note, and an earlier
    one does not overwrite it."""
    good, bad = gitlab.candidate("good"), gitlab.candidate("bad", wrong=9)
    lost = gitlab.candidate("lost")
    shutil.rmtree(lost.evidence)
    with fake_gitlab.running() as api:
        assert deploy(gitlab, good, "v0.1.0", 42, api) == 0
        [note] = api.notes
        entry = Registry.open(load_settings()).promoted("v0.1.0")
        assert "\n### Promoted `v0.1.0`\n" in note.body
        assert entry.hash in note.body
        assert f"[pipeline]({api.job['CI_PIPELINE_URL']})" in note.body
        assert deploy(gitlab, bad, "v0.2.0", 43, api) == 1
        assert "\n### Refused `v0.2.0`: it failed the gate\n" in note.body
        assert re.search(r"\| half\.a \|.*FAILED", note.body)
        assert deploy(gitlab, lost, "v0.3.0", 44, api) != 0
        assert "\n### Deployment of `v0.3.0` stopped in job `evaluate`\n" in note.body
        assert "see its log" in note.body
        before = note.body
        assert deploy(gitlab, good, "v0.1.0", 41, api) == 0  # it changes nothing
        assert api.notes == [note]
        assert note.body == before
