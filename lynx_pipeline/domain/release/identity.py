"""Who may change prod: a policy over the claims of a verified token.

The token is a GitHub Actions OIDC token. Its signature, lifetime, issuer and audience are verified
before a :class:`Claims` exists; that it is used only once is checked against the ledger
(``check_unused``). Each claim is in one class:

* required and verified: :data:`PINNED`, against :func:`_expected`;
* required and present: :data:`PRESENT`, recorded for audits;
* deliberately unchecked: :data:`UNCHECKED`, with the reason; so is any claim that the issuer adds.

Names can be given away and taken again, so the repository and its owner are pinned by id. A claim
is text; any other type is refused, even where it would compare equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lynx_pipeline.domain.ledger.facts import Actor
from lynx_pipeline.errors import Refused

# The repository's name; who and what started the run; which attempt it was.
PRESENT = ("jti", "repository", "actor", "actor_id", "run_id", "run_attempt", "workflow_sha")

PINNED = (
    *("iss", "repository_id", "repository_owner_id", "workflow_ref", "job_workflow_ref"),
    *("ref", "sha", "environment", "runner_environment", "event_name"),
)

UNCHECKED = {
    "sub": "a repository can choose its form; each of its parts is pinned separately",
    "workflow": "the workflow's display name; workflow_ref says which file it is",
    "job_workflow_sha": "job_workflow_ref is pinned to a branch whose commit sha pins",
    "repository_owner": "a name; repository_owner_id is the owner",
    "repository_visibility": "a private repository's workflow is trusted no more than a public one",
    "ref_type": "ref starts with refs/heads/, so it is a branch",
    "ref_protected": "people without rights on the environment may change it",
    "head_ref": "only set on pull requests, whose ref is refused",
    "base_ref": "only set on pull requests, whose ref is refused",
    "run_number": "run_id is the run's identity",
    "enterprise": "the owner is pinned",
    "enterprise_id": "the owner is pinned",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """Which workflow may change prod: ``[tool.lynx_pipeline.identity]``.

    ``workflow`` is the file's path in the repository, ``events`` are the allowed triggers.
    """

    issuer: str
    audience: str
    repository_id: str
    repository_owner_id: str
    workflow: str
    environment: str
    events: tuple[str, ...]
    ref: str = "refs/heads/main"
    runner_environment: str = "github-hosted"


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a token whose signature, lifetime, issuer and audience were verified."""

    values: Mapping[str, Any]


def check_policy(policy: Policy | None) -> Policy:
    """``policy``, checked to be complete.

    Raises:
        Refused: there is no policy, or a part of it is empty.
    """
    if policy is None or not all(getattr(policy, f.name) for f in fields(policy)):
        raise Refused(
            "prod is changed only by the CI workflow's verified identity, and no policy says which "
            "workflow that is: fill [tool.lynx_pipeline.identity] in pyproject.toml."
        )
    return policy


def check_identity(policy: Policy, claims: Claims, commit: str) -> Actor:
    """The actor for the entry, if the policy lets it change prod.

    ``commit`` is the checked-out one: the workflow must have run for what is judged.

    Raises:
        Refused: the policy is incomplete, or a claim is missing or has another value.
    """
    check_policy(policy)
    actor = {name: _text(claims, name) for name in PRESENT}
    for name, allowed in _expected(policy, actor["repository"], commit).items():
        found = _text(claims, name)
        if found not in allowed:
            raise _refusal(name, repr(found)[:200], " or ".join(map(repr, allowed)))
        actor[name] = found
    return Actor(**actor)


def _expected(policy: Policy, repository: str, commit: str) -> dict[str, tuple[str, ...]]:
    """The allowed values of each pinned claim. The two ids pin the repository's name."""
    workflow = f"{repository}/{policy.workflow}@{policy.ref}"
    return {
        "iss": (policy.issuer,),
        "repository_id": (policy.repository_id,),
        "repository_owner_id": (policy.repository_owner_id,),
        "workflow_ref": (workflow,),
        # It differs from workflow_ref where a reusable workflow is involved: ours called by a
        # foreign one, or a foreign one called by ours.
        "job_workflow_ref": (workflow,),
        "ref": (policy.ref,),
        "sha": (commit,),
        "environment": (policy.environment,),
        "runner_environment": (policy.runner_environment,),
        "event_name": policy.events,
    }


def _text(claims: Claims, name: str) -> str:
    value = claims.values.get(name)
    if not isinstance(value, str) or not value:
        found = "nothing" if name not in claims.values else repr(value)[:100]
        raise _refusal(name, found, "non-empty text")
    return value


def _refusal(name: str, found: str, expected: str) -> Refused:
    return Refused(
        f"prod is changed only by the CI workflow's verified identity, and this identity does not "
        f"match: claim {name!r}: got {found}, expected {expected}."
    )
