"""A release request on a pull request: who makes it, whether they may, and for which candidate.

The check is repeated right before a promotion, so nothing is remembered from the first time.
"""

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path, PurePosixPath

from lynx_pipeline.adapters import git_files
from lynx_pipeline.adapters.actions import run_attempt, run_number, triggering_actor
from lynx_pipeline.adapters.github import GitHub
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.release.approval import check_approved
from lynx_pipeline.domain.release.identity import check_policy
from lynx_pipeline.domain.release.owners import PLACES, owners_of
from lynx_pipeline.domain.release.request import (
    Comment,
    Objection,
    choose_comment,
    read_comment,
)
from lynx_pipeline.domain.release.request_limit import (
    WINDOW,
    RecentRuns,
    Run,
    check_number,
    evaluated,
    requests,
)
from lynx_pipeline.domain.versioning import check_semver
from lynx_pipeline.errors import Refused
from lynx_pipeline.evaluation.candidate import choose


def valid_request(
    settings: Settings, github: GitHub, number: int, started_by: int | None
) -> Comment:
    """The comment on pull request ``number`` that is the valid release request.

    Owners of the deploy workflow's file, according to CODEOWNERS of the checked-out commit, may
    make one if they can write to the repository. ``started_by`` is the comment that started this
    run, if one did.

    Raises:
        Refused: see :func:`choose_comment`; or the settings name no workflow.
        BadInput: this is not a workflow run.
        SystemFailed: GitHub could not be reached.
    """
    workflow = check_policy(settings.identity).workflow
    objection = _objection(github, settings.root, git_files.head(settings.root), workflow)
    pull, actor = github.pull_request(number), triggering_actor()
    chosen = choose_comment(pull, github.comments(number), objection, actor, started_by)
    return chosen if chosen.edited else replace(chosen, edited=github.was_edited(chosen))


def check_first_attempt() -> None:
    """Check that nobody has re-run this workflow run. A request is a run, so each is counted.

    Raises:
        Refused: somebody has.
        BadInput: this is not a workflow run.
    """
    if (attempt := run_attempt()) != 1:
        raise Refused(
            f"this is attempt {attempt} of a workflow run, and only the first one may evaluate a "
            "candidate, so that every try is counted. Write a new comment."
        )


def check_limit_per_person(settings: Settings, github: GitHub) -> str:
    """Check that whoever triggered this workflow run did not make too many requests. Returns which
    one of how many this is, as a sentence.

    Raises:
        Refused: they did, or this run has waited too long; or the settings name no workflow.
        BadInput: this is not a workflow run.
        SystemFailed: GitHub could not be reached, or the token can't read its runs.
    """
    login, limit, now = triggering_actor(), settings.requests_per_day, datetime.now(UTC)
    recent = _recent_runs(settings, github, now)
    made = requests(recent, run_number(), lambda run: run.by == login.lower(), now)
    check_number(made, limit, f"{login} made", this_counts=True)
    return f"This is request {len(made.times)} of at most {limit} by {login} in 24 hours."


def check_limit_per_candidate(settings: Settings, github: GitHub, canonical_sha: str) -> None:
    """Check that there were not too many requests for this candidate, whoever made them. Copies of
    a model have the same canonical sha, so they are one candidate.

    Raises:
        See :func:`check_limit_per_person`.
    """
    workflow = check_policy(settings.identity).workflow
    owners = owners_at(settings.root, git_files.head(settings.root), workflow)

    def by_owner(run: Run) -> bool:
        # Anybody can start a run, but others are refused before anything is evaluated. Whose a
        # deleted account was is not known.
        return not run.by or run.by in owners

    def counts(run: Run) -> bool | None:
        return by_owner(run) and evaluated(github.jobs(run.id), canonical_sha)

    now, limit, number = datetime.now(UTC), settings.requests_per_day, run_number()
    recent = _recent_runs(settings, github, now)
    # Asking for the jobs of each run takes time, and on most days there are too few runs.
    if len(requests(recent, number, by_owner, now).times) > limit:
        subject = f"for this candidate (bundle {canonical_sha[:12]}) there were"
        made = requests(recent, number, counts, now)
        check_number(made, limit, subject, this_counts=False)


def _recent_runs(settings: Settings, github: GitHub, now: datetime) -> RecentRuns:
    workflow = PurePosixPath(check_policy(settings.identity).workflow).name
    return github.runs(workflow, now - 2 * WINDOW)


def check_still_requested(
    settings: Settings, github: GitHub, number: int, comment: int, candidate: str, semver: str
) -> None:
    """Check that the same comment is still the valid request, for the same candidate and version.

    Raises:
        Refused: it is not, or the label was removed.
        SystemFailed: GitHub or MLflow could not be reached.
    """
    request = read_comment(valid_request(settings, github, number, comment))
    if request.gate != (settings.model if settings.gate else ""):
        raise Refused(
            f"the comment requests gate={request.gate}, but this job works with {settings.model}. "
            "Write a new comment."
        )
    requested = str(choose(settings, request.reference, request.model).key)
    if (requested, request.semver) != (candidate, semver):
        raise Refused(
            f"the comment requests candidate {requested} as {request.semver}, but this workflow "
            f"run evaluated {candidate} for {semver}. If an alias was moved, request it again."
        )
    check_semver(semver, settings.env)


def approval(settings: Settings, github: GitHub, number: int, base: str) -> str:
    """Who approved the pull request's change of the gate inputs: an owner of the baseline
    according to ``base``, since the pull request itself may change CODEOWNERS.

    Raises:
        Refused: no valid approval.
        SystemFailed: GitHub could not be reached.
    """
    path = settings.baseline.relative_to(settings.root).as_posix()
    return check_approved(
        github.pull_request(number),
        github.reviews(number),
        github.commits(number),
        _objection(github, settings.root, base, path),
    )


def owners_at(root: Path, commit: str, path: str) -> frozenset[str]:
    """The owners of ``path`` according to ``CODEOWNERS`` in ``commit``, in lower case.

    Raises:
        SystemFailed: git failed.
    """
    for place in PLACES:
        raw = git_files.file_at(root, commit, root / place)
        if raw is not None:
            return owners_of(raw.decode(errors="replace"), path)
    return frozenset()


def _objection(github: GitHub, root: Path, commit: str, path: str) -> Objection:
    """Why a login is not authorized: not an owner of ``path`` at ``commit``, or no write access."""
    owners = owners_at(root, commit, path)

    @cache
    def objection(login: str) -> str | None:
        if login.lower() not in owners:
            listed = ", ".join(sorted(owners)) or "no one"
            return f"{login} is not an owner of {path}; CODEOWNERS lists {listed}"
        if not github.may_write(login):
            return f"{login} cannot write to this repository"
        return None

    return objection
