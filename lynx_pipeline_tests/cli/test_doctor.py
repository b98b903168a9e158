"""``doctor`` on a healthy set-up and on broken ones: each is named, with what to do."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lynx_pipeline.adapters.ledgers import open_store
from lynx_pipeline.cli import main
from lynx_pipeline.config import GitRemote, load_settings
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.setup.workflows import FOLDER, Action, workflow_files
from lynx_pipeline_tests.cli.doctor_set_up import REVIEW, GitHub, SetUp
from lynx_pipeline_tests.cli.helpers import Capsys
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import bundle, promoted
from lynx_pipeline_tests.support.fake_issuer import policy, policy_table
from lynx_pipeline_tests.support.http_server import serving
from lynx_pipeline_tests.support.places import GIT_ENV, OnGit, git
from lynx_pipeline_tests.support.repositories import repository_with_eval_set
from lynx_pipeline_tests.support.signing import RELEASE, public_key, sign, signatures_table
from lynx_pipeline_tests.support.wheels import imitation

DEV = ("git", "Dagster", "eval set", "DVC remote", "baseline", "MLflow", "sandbox", "registry")
PROD = (
    *("identity", "signatures", "judges", "committed inputs", "branch", "workflow", "owners"),
    *("environments", "branch rules"),
)
WORKFLOW = ".github/workflows/deploy-shop.yml"
BASELINE_WORKFLOW = ".github/workflows/baseline.yml"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tracking: Tracking) -> Path:
    """A folder with the project, as ``init`` and docs/ci.md make it, and its origin."""
    folder = tmp_path_factory.mktemp("template")
    root = repository_with_eval_set(folder / "shop")
    run_id = tracking.run({"model": bundle(folder / "bundle")})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
        command = ["init", "--yes", "--wheel", str(imitation(folder)), "--owner", "octocat"]
        assert main([*command, "--candidate", run_id]) == 0
    text = (root / "pyproject.toml").read_text()
    table = policy_table(policy(workflow=WORKFLOW))
    text = text.replace("[tool.dg]", f"{table}\n[tool.dg]", 1)
    registry = OnGit.new(folder / "registry.git")
    place = f'registry = "git+file://{registry.bare}#lynx-registry"\n'
    text = text.replace("[tool.lynx_pipeline]\n", f"[tool.lynx_pipeline]\n{place}", 1)
    (root / "pyproject.toml").write_text(text)
    OnGit.new(folder / "origin.git")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "The project")
    git(root, "remote", "add", "origin", f"file://{folder / 'origin.git'}")
    git(root, "push", "--quiet", "origin", "HEAD:main")
    return folder


@pytest.fixture
def healthy(
    template: Path, tmp_path: Path, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SetUp]:
    """A copy of it, with GitHub's API, in ``prod``."""
    for name in os.environ:
        if name.startswith(("GITHUB_", "GIT_")):
            monkeypatch.delenv(name)
    shutil.copytree(template, tmp_path / "t", symlinks=True)
    root, origin = tmp_path / "t/shop", tmp_path / "t/origin.git"
    git(root, "remote", "set-url", "origin", f"file://{origin}")
    for name, value in GIT_ENV.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(root)
    monkeypatch.setenv("LYNX_ENV", "prod")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    github = GitHub()
    with serving(github.answer) as github.url:
        monkeypatch.setenv("GITHUB_API_URL", github.url)
        monkeypatch.setenv("GITHUB_TOKEN", "good")
        monkeypatch.setattr(
            "lynx_pipeline.setup.doctor.github_repository", lambda _: ("octo", "shop")
        )
        yield SetUp(root, origin, github)


def findings(capsys: Capsys) -> dict[str, tuple[str, str]]:
    """Status and text of each check, by its name."""
    out, err = capsys.readouterr()
    assert err == ""
    found = {}
    for line in out.splitlines():
        status, _, rest = line.partition(" ")
        name, _, text = rest.strip().partition(": ")
        found[name] = (status, text)
    return found


@pytest.mark.slow
def test_a_healthy_set_up(healthy: SetUp, capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is changed."""
    before = git(healthy.root, "status", "--porcelain", "--ignored=no")
    assert main(["doctor"]) == 0
    found = findings(capsys)
    assert [*found] == [*DEV, *PROD]
    assert {status for status, _ in found.values()} == {"ok"}
    assert found["owners"][1] == "octocat may request a promotion."
    assert git(healthy.root, "status", "--porcelain", "--ignored=no") == before
    assert main(["doctor", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {it["status"] for it in listed} == {"ok"}
    monkeypatch.delenv("GITHUB_TOKEN")
    assert main(["doctor"]) == 0
    found = findings(capsys)
    assert found["environments"][0] == found["branch rules"][0] == "skipped"
    assert found["owners"][1].endswith("if these are people's logins.")
    assert "GITHUB_TOKEN=$(gh auth token)" in found["environments"][1]


def _no_dagster(it: SetUp) -> None:
    (it.root / "dagster.yaml").unlink()


def _edited(it: SetUp) -> None:
    it.edit("eval.jsonl", 'Say word1"', 'Say word one"')


def _not_pushed(it: SetUp) -> None:
    shutil.rmtree(it.root / "data/dvc-remote")


def _remote_down(it: SetUp) -> None:
    it.edit(".dvc/config", "url = ../data/dvc-remote", "url = http://127.0.0.1:9/data")


def _no_baseline(it: SetUp) -> None:
    (it.root / "eval_baseline.json").unlink()


def _other_eval_set(it: SetUp) -> None:
    raw = json.loads((it.root / "eval_baseline.json").read_text())
    raw["eval_set_dvc_hash"] = "0" * 32
    (it.root / "eval_baseline.json").write_text(json.dumps(raw))


def _no_registry(it: SetUp) -> None:
    it.edit("pyproject.toml", "/registry.git#", "/nowhere.git#")


def _no_keys(it: SetUp) -> None:
    it.edit("pyproject.toml", signatures_table(RELEASE), "")


def _other_key(it: SetUp) -> None:
    new, settings = OnGit.new(it.root.parent / "another.git"), load_settings(it.root)
    assert isinstance(settings.registry, GitRemote)
    it.edit("pyproject.toml", settings.registry.url, f"file://{new.bare}")
    entry = promoted("v0.1.0", env=Env.PROD, model="shop")
    open_store(load_settings(it.root)).append(lambda _: entry, sign=sign)
    it.edit("pyproject.toml", public_key(), public_key("other"))


def _no_judges(it: SetUp) -> None:
    it.edit("pyproject.toml", 'judges = [".github"]', "judges = []")
    it.commit()


def _uncommitted(it: SetUp) -> None:
    it.edit("eval_baseline.json", "The first", "The very first")


def _behind(it: SetUp) -> None:
    it.edit("eval_baseline.json", "The first", "The very first")
    it.commit()
    git(it.root, "reset", "--quiet", "--hard", "HEAD~1")


def _no_workflow(it: SetUp) -> None:
    (it.root / WORKFLOW).unlink()
    it.commit()


def _calls_nothing(it: SetUp) -> None:
    table = "\n[tool.lynx_pipeline.identity]\n"
    called = f"octo-org/ci/.github/workflows/promote.yml@{'e' * 40}"
    it.edit("pyproject.toml", table, f'{table}job_workflow = "{called}"\n')
    it.commit()


def _nobody(it: SetUp) -> None:
    it.edit(".github/CODEOWNERS", "@octocat", "@OWNER")
    it.commit()


def _organization(it: SetUp) -> None:
    it.github.codeowners = [{"line": 6, "kind": "Unknown owner"}]


def _no_environment(it: SetUp) -> None:
    del it.github.environments["report"]


def _open_environment(it: SetUp) -> None:
    it.github.environments["production"] = False


def _no_review(it: SetUp) -> None:
    without = {**REVIEW, "require_code_owner_review": False}
    it.github.rules = [{"type": "pull_request", "parameters": without}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("break_it", "name", "code", "message"),
    [
        (_no_dagster, "Dagster", 2, "instance_class: {module: lynx_pipeline.defs.instance"),
        (_edited, "eval set", 2, "To keep the change, run 'dvc add"),
        (_not_pushed, "DVC remote", 2, "the eval set: its folder does not exist"),
        (_remote_down, "DVC remote", 3, "Check the network, the credentials and the remote"),
        (_no_baseline, "baseline", 2, "no baseline, so nothing can be promoted"),
        (_other_eval_set, "baseline", 2, "or propose a new baseline."),
        (_no_registry, "registry", 3, "nowhere.git"),
        (_no_keys, "signatures", 2, "names no key that may sign"),
        (_other_key, "registry", 1, "has 1 entry, of which 1 don't count."),
        (_no_judges, "judges", 1, 'Write judges = [".github/workflows/deploy-shop.yml"'),
        (_uncommitted, "committed inputs", 1, "it was edited and not committed"),
        (_behind, "branch", 1, "which changes eval_baseline.json"),
        (_no_workflow, "workflow", 2, "Commit it, or correct"),
        (_calls_nothing, "workflow", 2, "does not call octo-org/ci/.github/workflows/promote.yml@"),
        (_nobody, "owners", 2, "Put in the logins of people"),
        (_organization, "owners", 2, "GitHub does not accept CODEOWNERS: line 6: Unknown owner."),
        (_no_environment, "environments", 2, "has no environment report. Create it"),
        (_open_environment, "environments", 2, "every branch can use the environment production"),
        (_no_review, "branch rules", 2, "requires a review from code owners, no force push, so"),
    ],
)
def test_what_is_broken_is_named_with_a_remedy(
    healthy: SetUp,
    capsys: Capsys,
    break_it: Callable[[SetUp], None],
    name: str,
    code: int,
    message: str,
) -> None:
    break_it(healthy)
    assert main(["doctor"]) >= code
    found = findings(capsys)
    assert found[name][0] == "FAILED"
    assert message in found[name][1]
    others = {it for it, (status, _) in found.items() if status == "FAILED"} - {name}
    # A change in the tree is also one that is not committed.
    assert others <= {"committed inputs", "judges", "baseline", "branch"}


@pytest.mark.slow
def test_a_workflow_of_another_version_is_a_warning(
    healthy: SetUp, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    (wheel,) = (healthy.root / FOLDER).glob("*.whl")
    monkeypatch.setattr("lynx_pipeline.setup.doctor.installed_wheel", lambda: wheel)
    assert main(["doctor"]) == 0
    assert findings(capsys)["workflow"][1] == f"{WORKFLOW} is committed, and up to date."
    healthy.edit(WORKFLOW, "timeout-minutes: 120", "timeout-minutes: 60")
    healthy.commit()
    assert main(["doctor"]) == 0
    assert findings(capsys)["workflow"] == (
        "warning",
        "not committed as this version of lynx-pipeline writes it: deploy-shop.yml. "
        "'lynx-pipeline init' shows the difference.",
    )


@pytest.mark.slow
def test_a_workflow_with_the_action_is_compared_too(healthy: SetUp, capsys: Capsys) -> None:
    """With the commit that it names."""
    shutil.rmtree(healthy.root / FOLDER)
    for name in (WORKFLOW, BASELINE_WORKFLOW):
        (healthy.root / name).unlink()
    for file in workflow_files(healthy.root, "shop", Action(f"octo-org/gate@{'a1' * 20}")):
        file.write()
    healthy.commit()
    main(["doctor"])
    assert findings(capsys)["workflow"][1] == f"{WORKFLOW} is committed, and up to date."
    healthy.edit(WORKFLOW, "timeout-minutes: 120", "timeout-minutes: 60")
    healthy.commit()
    main(["doctor"])
    assert findings(capsys)["workflow"][0] == "warning"


@pytest.mark.slow
def test_a_dead_mlflow_is_named(
    healthy: SetUp, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main(["doctor"]) == 3
    status, text = findings(capsys)["MLflow"]
    assert status == "FAILED"
    assert "Check the server and MLFLOW_TRACKING_URI" in text


@pytest.mark.slow
@pytest.mark.parametrize(("env", "code"), [("dev", 0), ("prod", 1)])
def test_a_missing_sandbox_is_a_warning_in_dev(
    healthy: SetUp, capsys: Capsys, monkeypatch: pytest.MonkeyPatch, env: str, code: int
) -> None:
    tools = healthy.root.parent / "tools"
    tools.mkdir()
    (tools / "git").symlink_to(shutil.which("git") or "")
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("LYNX_ENV", env)
    assert main(["doctor"]) == code
    status, text = findings(capsys)["sandbox"]
    assert status == ("FAILED" if code else "warning")
    assert "bwrap is not installed (Debian's package is bubblewrap)" in text


@pytest.mark.slow
def test_a_project_without_an_identity_is_not_set_up_for_production(
    healthy: SetUp, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In ``prod`` that is an error."""
    file = healthy.root / "pyproject.toml"
    head, _, rest = file.read_text().partition("\n[tool.lynx_pipeline.identity]\n")
    file.write_text(head + rest[rest.index("\n[tool.dg]") :])
    assert main(["doctor"]) == 1
    found = findings(capsys)
    assert [*found] == [*DEV, "identity"]
    assert "fill [tool.lynx_pipeline.identity] in pyproject.toml" in found["identity"][1]
    monkeypatch.setenv("LYNX_ENV", "dev")
    assert main(["doctor"]) == 0
    assert findings(capsys)["production"][0] == "skipped"


def test_every_check_runs_in_a_project_that_has_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    """What one needs and is missing does not stop the others."""
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.lynx_pipeline]\nmodel = "m"\neval_set = "e.jsonl"\nbaseline = "b.json"\n'
        + policy_table(policy(workflow=WORKFLOW))
    )
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LYNX_ENV", "prod")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////dev/null/mlflow.db")
    assert main(["doctor"]) == 3
    found = findings(capsys)
    assert [*found] == [*DEV, *PROD]
    failed = {name for name, (status, _) in found.items() if status == "FAILED"}
    assert {*DEV, *PROD} - failed == {
        *("git", "sandbox", "identity", "signatures", "environments", "branch rules")
    }
