"""Who may change prod: a policy over the claims of a verified token.

The token is an OIDC token of a CI system, one of :data:`~.providers.PROVIDERS`. Its signature,
lifetime, issuer and audience are verified before a :class:`Claims` exists; that it is used only
once is checked against the ledger (``check_unused``). Each claim is in one class:

* required and verified: :data:`PINNED`, against :func:`_expected`, and the provider's constants;
* required and present: :data:`PRESENT`, recorded for audits;
* deliberately unchecked, with the reason that the provider's data gives.

Names can be given away and taken again, so the repository and its owner are pinned by id. A claim
is text; any other type is refused, even where it would compare equal.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lynx_pipeline.domain.ledger.facts import Actor
from lynx_pipeline.domain.release.providers import GITHUB, GITLAB, PROVIDERS
from lynx_pipeline.errors import Refused

# The repository's name; who and what started the run; which attempt it was.
PRESENT = ("jti", "repository", "actor", "actor_id", "run_id", "run_attempt", "workflow_sha")

PINNED = (
    *("iss", "repository_id", "repository_owner_id", "workflow_ref", "job_workflow_ref"),
    *("ref", "sha", "environment", "runner_environment", "event_name"),
)


@dataclass(frozen=True, slots=True)
class Policy:
    """Which workflow may change prod: ``[tool.lynx_pipeline.identity]``.

    ``provider`` is one of :data:`~.providers.PROVIDERS`. ``workflow`` is the file's path in the
    repository, ``events`` are the allowed triggers. ``job_workflow`` is the reusable workflow whose
    job promotes, ``OWNER/REPO/PATH@COMMIT``; empty: the job is in ``workflow`` itself.
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
    provider: str = GITHUB
    job_workflow: str = ""


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a token whose signature, lifetime, issuer and audience were verified."""

    values: Mapping[str, Any]


def check_policy(policy: Policy | None) -> Policy:
    """``policy``, checked to be complete.

    Raises:
        Refused: there is no policy, or a part of it other than ``job_workflow`` is empty.
    """
    pinned = [field.name for field in fields(Policy) if field.name != "job_workflow"]
    if policy is None or not all(getattr(policy, name) for name in pinned):
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
    provider = PROVIDERS[check_policy(policy).provider]
    names = {field.name: provider.claims.get(field.name, field.name) for field in fields(Actor)}
    for name in PRESENT:
        _text(claims, names[name])
    for name, value in provider.constant.items():
        _check(name, _text(claims, name), (value,))
    actor = Actor(**{name: _text(claims, claim) for name, claim in names.items()})
    _check_actor(policy, actor, commit, names)
    return actor


def check_actor(policy: Policy, actor: Actor, commit: str) -> None:
    """Check that the policy would let the actor of an entry change prod. The provider's constants
    are not recorded, so they were checked only when the entry was made.

    Raises:
        Refused: the policy is incomplete, or a claim has another value.
    """
    _check_actor(check_policy(policy), actor, commit, {})


def run_page(actor: Actor, github: str, policy: Policy | None) -> str:
    """The address of the page of the run that made an entry; empty if it is not certain. ``github``
    is GitHub's address, which an entry does not have. The address of GitLab is the issuer's, and
    whoever can push an entry could write any: only that of the policy is linked."""
    on_gitlab = "//" in actor.workflow_ref
    if on_gitlab and (policy is None or policy.issuer != actor.iss):
        return ""
    return PROVIDERS[GITLAB if on_gitlab else GITHUB].run_page.format(
        server=github, issuer=actor.iss, repository=actor.repository, run_id=actor.run_id
    )


def _check_actor(policy: Policy, actor: Actor, commit: str, claims: Mapping[str, str]) -> None:
    """``claims`` has the names of the claims behind an actor's fields, for messages."""
    values = asdict(actor)
    for name, allowed in _expected(policy, actor.repository, commit).items():
        _check(claims.get(name, name), values[name], allowed)


def _expected(policy: Policy, repository: str, commit: str) -> dict[str, tuple[str, ...]]:
    """The allowed values of each pinned field. The two ids pin the repository's name."""
    host = policy.issuer.partition("://")[2]
    workflow = PROVIDERS[policy.provider].workflow.format(
        host=host, repository=repository, workflow=policy.workflow, ref=policy.ref
    )
    return {
        "iss": (policy.issuer,),
        "repository_id": (policy.repository_id,),
        "repository_owner_id": (policy.repository_owner_id,),
        "workflow_ref": (workflow,),
        # On GitHub it differs from workflow_ref where a reusable workflow is involved: ours called
        # by a foreign one, or a foreign one called by ours, which needs a pin of its own.
        "job_workflow_ref": (policy.job_workflow or workflow,),
        "ref": (policy.ref,),
        "sha": (commit,),
        "environment": (policy.environment,),
        "runner_environment": (policy.runner_environment,),
        "event_name": policy.events,
    }


def _check(claim: str, found: str, allowed: tuple[str, ...]) -> None:
    if found not in allowed:
        raise _refusal(claim, repr(found)[:200], " or ".join(map(repr, allowed)))


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
