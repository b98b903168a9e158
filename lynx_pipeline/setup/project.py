"""What a project in somebody's repository needs, found out from the repository."""

import json
import re
import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path

from lynx_pipeline.adapters import git
from lynx_pipeline.config import NoProject, Settings, load_settings
from lynx_pipeline.defs import DAGSTER_YAML
from lynx_pipeline.domain.eval_set_findings import Severity
from lynx_pipeline.domain.gate.baseline import USUAL_TOLERANCE
from lynx_pipeline.domain.release.owners import PLACES
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.errors import BadInput, SystemFailed, some_of
from lynx_pipeline.evaluation.eval_set_check import check_eval_set
from lynx_pipeline.registry.judges import is_lock_file
from lynx_pipeline.setup.files import File, extended
from lynx_pipeline.setup.workflows import deploy_workflow

BASELINE = "eval_baseline.json"
_GITHUB = re.compile(r"github\.com[:/]([\w.-]+)/([\w.-]+?)(?:\.git)?/?\Z")
_DAGSTER = f"{DAGSTER_YAML}\ntelemetry: {{enabled: false}}\nnux: {{enabled: false}}\n"
# Our state, models that a local MLflow keeps here, and what the workflow installs.
_IGNORED = (".lynx", "mlruns", ".venv")
_WORKSPACE = "load_from:\n  - python_module: lynx_pipeline.definitions\n"
_DG = """\
# Dagster's `dg` command finds the project here.
[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "lynx_pipeline"
code_location_target_module = "lynx_pipeline.definitions"

[tool.dg.cli.telemetry]
enabled = false
"""


def git_root(folder: Path) -> Path:
    """The root of the git repository that contains ``folder``.

    Raises:
        BadInput: there is none.
        SystemFailed: git failed.
    """
    done = git.run(folder, "rev-parse", "--show-toplevel")
    if done.returncode == 0:
        return Path(done.stdout.decode().removesuffix("\n"))
    reason = git.stderr_line(done)
    if "not a git repository" in reason:
        raise BadInput(f"{folder} is not in a git repository. Run 'git init' first.")
    if "must be run in a work tree" in reason:
        raise BadInput(f"{folder} is in a bare git repository. Run this in a clone of it.")
    raise SystemFailed(f"git rev-parse failed: {reason}")


def github_repository(root: Path) -> tuple[str, str] | None:
    """Owner and name of the repository on GitHub that is the remote ``origin``, if it is one."""
    done = git.run(root, "remote", "get-url", "origin")
    found = _GITHUB.search(done.stdout.decode(errors="replace").strip())
    return (found[1], found[2]) if found and done.returncode == 0 else None


def project_here(folder: Path) -> Settings | None:
    """The settings of the project whose root is ``folder``; None if there is no project yet.

    Raises:
        BadInput: a setting is invalid, or ``folder`` is inside another project.
    """
    try:
        settings = load_settings(folder)
    except NoProject:
        return None
    if settings.root != folder:
        raise BadInput(f"{folder} is in the project {settings.root}. Run this there.")
    return settings


def model_name(folder: Path) -> str:
    """A model's name made of the folder's."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.name).strip("-_")
    return name or "model"


def workflow_subject(settings: Settings) -> str:
    """What the deploy workflow is named after: the model, or the project's folder if the project
    has several models, because one workflow promotes them all."""
    return model_name(settings.root) if settings.gate else settings.model


def find_eval_set(root: Path) -> Path:
    """The repository's eval set: its only JSON lines file.

    Raises:
        BadInput: there is none, or more than one.
    """
    listed = git.run(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", ".")
    names = {it.removesuffix(".dvc") for it in listed.stdout.decode(errors="replace").split("\0")}
    found = sorted(it for it in names if it.endswith(".jsonl"))
    if len(found) == 1:
        return root / found[0]
    if found:
        raise BadInput(
            f"which of these is the eval set? {some_of(found)}. Name it: --eval-set FILE."
        )
    raise BadInput(
        f"there is no eval set in {root}: expected a JSON lines file (*.jsonl) with the questions. "
        "docs/eval-sets.md describes it. From a table, make one: lynx-pipeline eval-set import "
        "TABLE --prompt COLUMN --expected COLUMN --bucket COLUMN --output eval.jsonl"
    )


def check_new_eval_set(file: Path, root: Path) -> None:
    """Check an eval set that is to be tracked by DVC.

    Raises:
        BadInput: it is not in the project, is tracked by git, or has an error.
    """
    if root not in file.parents:
        raise BadInput(f"{file} is not in the project's folder {root}. Copy the eval set there.")
    name = file.relative_to(root).as_posix()
    if not name.isprintable():
        raise BadInput(f"the eval set {name!r} has a character that can't be printed. Rename it.")
    if file.is_symlink():
        raise BadInput(f"{file} is a symbolic link. Put the eval set itself there.")
    if git.run(root, "ls-files", "--error-unmatch", "--", name).returncode == 0:
        raise BadInput(
            f"git tracks {name}, and DVC can't track what git tracks. Run this, and then init "
            f"again: git rm --cached {shlex.quote(name)}"
        )
    checked = check_eval_set(file, EXACT, USUAL_TOLERANCE, lambda *_: None)
    for finding in checked.findings:
        if finding.severity is Severity.ERROR:
            raise BadInput(
                f"{file}: {finding.message} To see everything, run: lynx-pipeline "
                f"eval-set check {shlex.quote(str(file))}"
            )


def check_committable(root: Path, names: Sequence[str]) -> None:
    """Check that git ignores none of these paths: a commit would silently leave them out.

    Raises:
        BadInput: it ignores one.
    """
    done = git.run(root, "check-ignore", "-z", "--stdin", stdin="\0".join([*names, ""]).encode())
    ignored = [it for it in done.stdout.decode(errors="replace").split("\0") if it]
    if ignored:
        raise BadInput(
            f"git ignores {some_of(ignored)}, so a commit would leave out what other machines "
            "need. Change .gitignore, or choose another place. This shows the line: git "
            f"check-ignore -v {shlex.quote(ignored[0])}"
        )


def project_files(root: Path, model: str, eval_set: Path, has_table: bool) -> list[File]:
    """The files of the project itself, without workflows."""
    pyproject, ignore = root / "pyproject.toml", root / ".gitignore"
    before = tomllib.loads(pyproject.read_text(encoding="utf-8")) if pyproject.exists() else {}
    tables = [] if has_table else [_table(root, model, eval_set)]
    tool = before.get("tool", {})
    if not isinstance(tool, dict) or "dg" not in tool:
        tables.append(_DG)
    ignored = ignore.read_bytes().splitlines() if ignore.exists() else []
    ours = [
        f"/{it}/"
        for it in _IGNORED
        if not {form.encode() for form in (it, f"{it}/", f"/{it}", f"/{it}/")} & {*ignored}
    ]
    settings = extended(pyproject, "\n".join(tables), missing=bool(tables))
    _check_settings(root, settings)
    return [
        settings,
        File(root / "dagster.yaml", _DAGSTER.encode()),
        File(root / "workspace.yaml", _WORKSPACE.encode()),
        extended(ignore, "\n".join([*ours, ""]), missing=bool(ours)),
    ]


def _check_settings(root: Path, pyproject: File) -> None:
    """Check ``pyproject.toml`` as it will be, before anything is written.

    Raises:
        BadInput: it is not valid, such as with this name of the model.
    """
    try:
        load_settings(root, pyproject=pyproject.content)
    except BadInput as error:
        raise BadInput(f"with our tables added, it would not be valid: {error}") from None


def _table(root: Path, model: str, eval_set: Path) -> str:
    owner, name = github_repository(root) or ("OWNER", "REPO")
    judges = json.dumps(proposed_judges(root))
    return f"""\
[tool.lynx_pipeline]
model = {json.dumps(model)}
eval_set = {json.dumps(eval_set.relative_to(root).as_posix(), ensure_ascii=False)}
baseline = "{BASELINE}"
# What a verdict depends on beside eval set, baseline and settings: its change stops a promotion.
# Add your own code that the workflow runs.
judges = {judges}
# Needed in prod:
# registry = "git+https://github.com/{owner}/{name}#lynx-registry"

# Whose workflow may promote in prod. Put in your repository's ids.
# [tool.lynx_pipeline.identity]
# issuer = "https://token.actions.githubusercontent.com"
# audience = "lynx-pipeline"
# repository_id = "123456789"        # gh api repos/{owner}/{name} --jq .id
# repository_owner_id = "1234567"    # gh api repos/{owner}/{name} --jq .owner.id
# workflow = "{deploy_workflow(model)}"
# environment = "production"
# events = ["issue_comment", "pull_request_target"]

# Whose signatures count in prod: the public half of the workflow's LYNX_SIGNING_KEY.
# [tool.lynx_pipeline.signatures]
# keys = [{{ public_key = "MCowBQYDK2VwAyEA..." }}]
"""


def proposed_judges(root: Path) -> Sequence[str]:
    """The workflows and what they install, the owners, and the lock files at the root."""
    locks = sorted(it.name for it in root.iterdir() if it.is_file() and is_lock_file(it.name))
    owners = [it for it in PLACES[1:] if (root / it).is_file()]
    return [".github", *owners, *locks]
