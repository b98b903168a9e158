"""A release request on a pull request: who asks, that they may, and for what.

Asked again right before a promotion, so nothing is remembered of the first time.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

from lynx_pipeline.adapters import git_files
from lynx_pipeline.adapters.actions import triggering_actor
from lynx_pipeline.adapters.github import GitHub
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.release.approval import check_approved
from lynx_pipeline.domain.release.identity import check_policy
from lynx_pipeline.domain.release.owners import PLACES, owners_of
from lynx_pipeline.domain.release.request import Comment, Objection, choose_comment, read_comment
from lynx_pipeline.domain.versioning import check_semver
from lynx_pipeline.errors import Refused


def asking_comment(
    settings: Settings, github: GitHub, number: int, started_by: int | None
) -> Comment:
    """The comment on pull request ``number`` that counts. Who owns the deploy workflow's file, by
    the checked-out commit, may ask, if they can write to the repository.

    Raises:
        Refused: see :func:`choose_comment`; or the settings name no workflow.
        BadInput: this is no workflow run.
        SystemFailed: GitHub could not be asked.
    """
    workflow = check_policy(settings.identity).workflow
    may_ask = _may(github, settings.root, git_files.head(settings.root), workflow)
    pull, by = github.pull_request(number), triggering_actor()
    chosen = choose_comment(pull, github.comments(number), may_ask, by, started_by)
    return chosen if chosen.edited else replace(chosen, edited=github.was_edited(chosen))


def check_still_asked(
    settings: Settings, github: GitHub, number: int, comment: int, run_id: str, semver: str
) -> None:
    """That the same comment still counts and asks for the same.

    Raises:
        Refused: it does not, or the label is gone.
        SystemFailed: GitHub could not be asked.
    """
    asked = read_comment(asking_comment(settings, github, number, comment))
    if (asked.mlflow_run_id, asked.semver) != (run_id, semver):
        raise Refused(
            f"the comment asks for run {asked.mlflow_run_id} as {asked.semver}, and this run is "
            f"about {run_id} as {semver}. Nothing was changed."
        )
    check_semver(semver, settings.env)


def approval(settings: Settings, github: GitHub, number: int, base: str) -> str:
    """Who approved the pull request's change of what verdicts are by: an owner of the baseline, as
    ``base`` says, since the pull request itself may change who that is.

    Raises:
        Refused: nobody did who counts.
        SystemFailed: GitHub could not be asked.
    """
    path = settings.baseline.relative_to(settings.root).as_posix()
    return check_approved(
        github.pull_request(number),
        github.reviews(number),
        github.commits(number),
        _may(github, settings.root, base, path),
    )


def _may(github: GitHub, root: Path, commit: str, path: str) -> Objection:
    owners = frozenset[str]()
    for place in PLACES:
        raw = git_files.file_at(root, commit, root / place)
        if raw is not None:
            owners = owners_of(raw.decode(errors="replace"), path)
            break

    @cache
    def objection(login: str) -> str | None:
        if login.lower() not in owners:
            named = ", ".join(sorted(owners)) or "nobody"
            return f"{login} is not an owner of {path}, by CODEOWNERS that is {named}"
        if not github.may_write(login):
            return f"{login} can't write to this repository"
        return None

    return objection
