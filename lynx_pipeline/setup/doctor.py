"""Checks of a set-up, from end to end. Each ends with a line: what is right, or what is wrong and
what to do. All of them run, whatever the others find."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from lynx_pipeline.adapters import git_files
from lynx_pipeline.adapters.dvc_data import recorded_md5
from lynx_pipeline.adapters.dvc_files import OnDisk, find
from lynx_pipeline.adapters.dvc_versions import why_not_in_remote
from lynx_pipeline.adapters.github import GitHub
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.config import Settings
from lynx_pipeline.deploy_workflow.release_request import owners_at
from lynx_pipeline.domain.ledger.signatures import load_key
from lynx_pipeline.domain.ledger.state import broken_rules
from lynx_pipeline.domain.release.identity import Policy, check_policy
from lynx_pipeline.domain.release.providers import GITHUB
from lynx_pipeline.domain.text import number_of, without_secrets
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, LynxError, Refused, from_os_error, some_of
from lynx_pipeline.evaluation.inputs import check_match, read_baseline, read_eval_set
from lynx_pipeline.evaluation.run import hidden_folders
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.gate_inputs import check_committed, check_current
from lynx_pipeline.registry.judges import check_judges
from lynx_pipeline.registry.witnesses import require_witnesses
from lynx_pipeline.sandbox.isolation import choose_isolation
from lynx_pipeline.setup.project import git_root, github_repository, workflow_subject
from lynx_pipeline.setup.workflows import (
    FOLDER,
    action_in,
    installed_wheel,
    workflow_files,
)

_ENVIRONMENTS = ("candidate", "production", "report")  # of the deploy workflow's jobs
_REVIEW = {
    "required_approving_review_count": "an approval",
    "require_code_owner_review": "a review from code owners",
    "dismiss_stale_reviews_on_push": "dismissing stale approvals",
    "require_last_push_approval": "approval of the most recent push",
}


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. ``exit_code`` is that of its error, 0 without one."""

    name: str
    status: Status
    text: str
    exit_code: int = 0


class _NotChecked(Exception):
    """A check does not apply, or something that it needs is missing here."""


class _Risky(Exception):
    """Nothing is broken, but somebody should know."""


def findings(settings: Settings) -> Iterator[Finding]:
    """Run all checks, those of production only if the project has an identity policy or this is
    ``prod``."""
    checks: list[tuple[str, Callable[[Settings], str]]] = [
        ("git", _git),
        ("Dagster", _dagster),
        ("eval set", _eval_set),
        ("DVC remote", _remote),
        ("baseline", _baseline),
        ("MLflow", _mlflow),
        ("sandbox", _sandbox),
        ("registry", _registry),
    ]
    production: list[tuple[str, Callable[[Settings], str]]] = [
        ("identity", _identity),
        ("signatures", _signatures),
        ("judges", _judges),
        ("committed inputs", _committed),
        ("branch", _current),
        ("workflow", _workflow),
        ("owners", _owners),
        ("environments", _environments),
        ("branch rules", _rules),
    ]
    for name, check in checks:
        yield _finding(name, partial(check, settings))
    if settings.identity is None and settings.env is Env.DEV:
        text = (
            "[tool.lynx_pipeline.identity] is missing from pyproject.toml, so nothing can be "
            "promoted in prod. docs/production.md describes it."
        )
        yield Finding("production", Status.SKIPPED, text)
        return
    # Without a policy, each of the others would say so again.
    for name, check in production if settings.identity else production[:1]:
        yield _finding(name, partial(check, settings))


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, Status.OK, check())
    except _NotChecked as reason:
        return Finding(name, Status.SKIPPED, str(reason))
    except _Risky as reason:
        return Finding(name, Status.WARNING, str(reason))
    except LynxError as error:
        return Finding(name, Status.FAILED, str(error), error.exit_code)
    except OSError as error:
        return Finding(name, Status.FAILED, str(from_os_error(error)), 3)


def _git(settings: Settings) -> str:
    head = git_files.head(settings.root)
    return f"the commit {head[:12]} is checked out in {git_root(settings.root)}."


def _dagster(_: Settings) -> str:
    from lynx_pipeline.defs.instance import open_instance

    with open_instance() as instance:
        return f"the instance has {number_of(instance.get_runs_count(), 'run')}."


def _eval_set(settings: Settings) -> str:
    items = read_eval_set(settings)
    return f"{number_of(len(items), 'item')}, MD5 {items.dvc_hash}, as DVC recorded them."


def _remote(settings: Settings) -> str:
    tracked = find(settings.eval_set, OnDisk())
    if not tracked.by_hash:
        raise _NotChecked("the eval set is in no remote under its hash.")
    why = why_not_in_remote(settings.eval_set, recorded_md5(tracked), tracked.remote)
    if why is not None:
        raise BadInput(f"no other machine can evaluate, since it can't get the eval set: {why}.")
    return "it has the eval set."


def _baseline(settings: Settings) -> str:
    baseline = read_baseline(settings.baseline)
    check_match(read_eval_set(settings), baseline)
    return f"{number_of(len(baseline.buckets), 'bucket')}, measured on this eval set."


def _mlflow(settings: Settings) -> str:
    with connected(settings.tracking_uri) as client:
        client.search_experiments(max_results=1)
    return f"{without_secrets(settings.tracking_uri)} answers."


def _sandbox(settings: Settings) -> str:
    try:
        isolation = choose_isolation(Env.PROD, hidden_folders(settings), lambda _: None)
    except Refused as error:
        if settings.env is Env.PROD:
            raise
        raise _Risky(str(error)) from None
    return f"{isolation.level} works."


def _registry(settings: Settings) -> str:
    if settings.registry is None:
        raise BadInput(
            "[tool.lynx_pipeline] in pyproject.toml has no 'registry', which prod needs. "
            "docs/production.md describes it."
        )
    registry = Registry.open(settings)
    ledger = registry.verify()
    entries = number_of(len(ledger.entries), "entry", "entries")
    require_witnesses(settings, ledger)
    if ignored := broken_rules(ledger, registry.unsigned(ledger)):
        raise Refused(
            f"{settings.registry} has {entries}, of which {len(ignored)} don't count. "
            "'lynx-pipeline registry verify' names them, with reasons."
        )
    return f"{settings.registry} is consistent, with {entries}."


def _identity(settings: Settings) -> str:
    policy = check_policy(settings.identity)
    job = f", which calls {policy.job_workflow}" if policy.job_workflow else ""
    return f"{policy.workflow} on {policy.ref} of repository {policy.repository_id}{job}."


def _signatures(settings: Settings) -> str:
    policy = settings.signatures
    if not policy.current:
        raise BadInput(
            "[tool.lynx_pipeline.signatures] in pyproject.toml names no key that may sign, and "
            "prod takes signed entries only. docs/signatures.md describes it."
        )
    for key in policy.keys:
        load_key(key)
    return f"{number_of(len(policy.current), 'key')} may sign."


def _judges(settings: Settings) -> str:
    check_judges(settings, _policy(settings), git_files.head(settings.root))
    return f"{some_of(settings.judges)}."


def _committed(settings: Settings) -> str:
    check_committed(settings, git_files.head(settings.root))
    return "baseline, eval set and settings are those of the commit."


def _current(settings: Settings) -> str:
    ref = _policy(settings).ref
    check_current(settings, git_files.head(settings.root), ref)
    return f"{ref} of the remote has the same gate inputs."


def _workflow(settings: Settings) -> str:
    policy, commit = _policy(settings), git_files.head(settings.root)
    top = git_root(settings.root)
    committed = git_files.file_at(top, commit, top / policy.workflow)
    if committed is None:
        raise BadInput(
            f"the commit has no {policy.workflow}, which the identity policy names. Commit it, or "
            "correct [tool.lynx_pipeline.identity]."
        )
    if policy.job_workflow and f"uses: {policy.job_workflow}".encode() not in committed:
        raise BadInput(
            f"{policy.workflow} does not call {policy.job_workflow}, which the identity policy "
            "names as the workflow whose job promotes. Write the same commit in both."
        )
    wheel = installed_wheel() if (settings.root / FOLDER).is_dir() else None
    source = action_in(committed) or wheel
    if policy.provider != GITHUB or source is None:
        return f"{policy.workflow} is committed."
    files = workflow_files(settings.root, workflow_subject(settings), source)
    changed = [
        it.path.name for it in files if git_files.file_at(top, commit, it.path) != it.content
    ]
    if changed:
        raise _Risky(
            f"not committed as this version of lynx-pipeline writes it: {some_of(changed)}. "
            "'lynx-pipeline init' shows the difference."
        )
    return f"{policy.workflow} is committed, and up to date."


def _owners(settings: Settings) -> str:
    policy, top = _on_github(settings), git_root(settings.root)
    owners = owners_at(top, git_files.head(settings.root), policy.workflow)
    if owners <= {"owner"}:
        raise BadInput(
            f"CODEOWNERS names nobody for {policy.workflow}, so nobody may request a promotion. "
            "Put in the logins of people; teams and organizations are no owners here."
        )
    named, github = some_of(sorted(owners)), _github_if_any(settings)
    if github is None:
        return f"{named} may request a promotion, if these are people's logins."
    if problems := github.codeowners_errors():
        raise BadInput(f"GitHub does not accept CODEOWNERS: {some_of(problems, 3)}. Correct it.")
    return f"{named} may request a promotion."


def _environments(settings: Settings) -> str:
    found = _github(settings).environments()
    if missing := [it for it in _ENVIRONMENTS if it not in found]:
        raise BadInput(
            f"the repository has no environment {some_of(missing)}. Create it, and restrict it to "
            "the default branch: docs/ci.md#setup."
        )
    if open_to_all := [it for it in _ENVIRONMENTS if not found[it]]:
        raise BadInput(
            f"every branch can use the environment {some_of(open_to_all)}, with its secrets. Set "
            "its deployment branches to the default branch only."
        )
    return f"{some_of(_ENVIRONMENTS)}, each restricted to some branches."


def _rules(settings: Settings) -> str:
    branch = _policy(settings).ref.removeprefix("refs/heads/")
    rules = _github(settings).rules(branch)
    review = rules.get("pull_request", {})
    missing = [text for key, text in _REVIEW.items() if not review.get(key)]
    missing += [] if "non_fast_forward" in rules else ["no force push"]
    if missing:
        raise BadInput(
            f"no ruleset of the branch {branch} requires {some_of(missing)}, so somebody can merge "
            "another baseline or workflow alone. Add it: docs/ci.md#setup."
        )
    return f"{branch} requires a review from code owners."


def _github(settings: Settings) -> GitHub:
    _on_github(settings)
    found = _github_if_any(settings)
    if found is None:
        raise _NotChecked(
            "needs GITHUB_TOKEN, and a remote 'origin' on GitHub: GITHUB_TOKEN=$(gh auth token)."
        )
    return found


def _github_if_any(settings: Settings) -> GitHub | None:
    known = github_repository(settings.root)
    return GitHub("/".join(known)) if os.environ.get("GITHUB_TOKEN") and known else None


def _on_github(settings: Settings) -> Policy:
    policy = _policy(settings)
    if policy.provider != GITHUB:
        raise _NotChecked(f"only for projects on GitHub, and the provider is {policy.provider}.")
    return policy


def _policy(settings: Settings) -> Policy:
    return check_policy(settings.identity)
