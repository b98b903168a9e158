"""Who may change prod: a policy over the claims of a verified token.

The token is a GitHub Actions OIDC token. Its signature, lifetime, issuer and audience were
verified before there is a :class:`Claims`; that it is used once is the ledger's to say
(``check_unused``). Here each claim has its class:

* required and verified: :data:`PINNED`, to what :func:`_expected` says;
* required and present: :data:`PRESENT`, kept in the entry for whoever audits it;
* deliberately unchecked: :data:`UNCHECKED`, with the reason; claims that the issuer may add
  are the same.

Names can be given away and taken again, so the repository and its owner are pinned by their
ids. A claim is text; anything else is refused, also where it would compare equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lynx_pipeline.errors import Refused

# The name that ids and workflow belong to; who and what started the run; which attempt it was.
PRESENT = ("jti", "repository", "actor", "actor_id", "run_id", "run_attempt", "workflow_sha")

PINNED = (
    *("iss", "repository_id", "repository_owner_id", "workflow_ref", "job_workflow_ref"),
    *("ref", "sha", "environment", "runner_environment", "event_name"),
)

# What an entry in prod says about who made it.
RECORDED = (*PRESENT, *PINNED)

UNCHECKED = {
    "sub": "a repository can choose its form; each part of it is pinned by itself",
    "workflow": "the workflow's display name; workflow_ref says which file it is",
    "job_workflow_sha": "job_workflow_ref is pinned to a branch whose commit sha pins",
    "repository_owner": "a name; repository_owner_id is the owner",
    "repository_visibility": "a private repository's workflow is trusted no more than a public's",
    "ref_type": "ref starts with refs/heads/, so it is a branch",
    "ref_protected": "a setting that people with less rights than the environment's may change",
    "head_ref": "empty but on pull requests, whose ref is refused",
    "base_ref": "empty but on pull requests, whose ref is refused",
    "run_number": "run_id is the run's identity",
    "enterprise": "the owner is pinned",
    "enterprise_id": "the owner is pinned",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """Whose workflow may change prod: ``[tool.lynx_pipeline.identity]``.

    ``workflow`` is the file's path in the repository, ``events`` what may have started it.
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
    """``policy``, if there is one and it pins all that it has to.

    Raises:
        Refused: there is none, or a part of it is empty.
    """
    if policy is None or not all(getattr(policy, f.name) for f in fields(policy)):
        raise Refused(
            "prod is changed only by the CI workflow's verified identity, and no policy says "
            "whose that is: fill [tool.lynx_pipeline.identity] in pyproject.toml."
        )
    return policy


def check_identity(policy: Policy, claims: Claims, commit: str) -> dict[str, str]:
    """The actor that an entry names, if the policy lets it change prod.

    ``commit`` is the checked-out one: what is judged has to be what the workflow ran for.

    Raises:
        Refused: the policy pins nothing, or a claim is missing or another.
    """
    check_policy(policy)
    actor = {name: _text(claims, name) for name in PRESENT}
    for name, allowed in _expected(policy, actor["repository"], commit).items():
        found = _text(claims, name)
        if found not in allowed:
            raise _refusal(name, repr(found)[:200], " or ".join(map(repr, allowed)))
        actor[name] = found
    return dict(sorted(actor.items()))


def _expected(policy: Policy, repository: str, commit: str) -> dict[str, tuple[str, ...]]:
    """What each pinned claim has to be. The repository's name is bound by the two ids."""
    workflow = f"{repository}/{policy.workflow}@{policy.ref}"
    return {
        "iss": (policy.issuer,),
        "repository_id": (policy.repository_id,),
        "repository_owner_id": (policy.repository_owner_id,),
        "workflow_ref": (workflow,),
        # Another one where a job is a reusable workflow's, ours called by a stranger's or
        # a stranger's called by ours.
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
        raise _refusal(name, found, "text that is not empty")
    return value


def _refusal(name: str, found: str, expected: str) -> Refused:
    return Refused(
        f"prod is changed only by the CI workflow's verified identity, and this is another: "
        f"claim {name!r}: got {found}, expected {expected}. Nothing was changed."
    )
