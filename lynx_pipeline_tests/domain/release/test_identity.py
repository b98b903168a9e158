"""The policy for a verified token's claims: every value that it pins is enforced."""

from dataclasses import asdict, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.release.identity import (
    PRESENT,
    Claims,
    Policy,
    check_identity,
    check_policy,
)
from lynx_pipeline.domain.release.providers import GITHUB, PROVIDERS
from lynx_pipeline.errors import Refused
from lynx_pipeline_tests.support.builders import JsonObject
from lynx_pipeline_tests.support.fake_issuer import (
    COMMIT,
    ISSUER,
    MAIN,
    REMOVED,
    REPOSITORY,
    WORKFLOW,
    WORKFLOW_REF,
    claims,
    policy,
)

UNCHECKED = PROVIDERS[GITHUB].unchecked
# Each pinned claim, and its value in the default policy.
PINNED = {
    "iss": ISSUER,
    "repository_id": "74",
    "repository_owner_id": "65",
    "workflow_ref": WORKFLOW_REF,
    "job_workflow_ref": WORKFLOW_REF,
    "ref": MAIN,
    "sha": COMMIT,
    "environment": "production",
    "runner_environment": "github-hosted",
    "event_name": "workflow_dispatch",
}
# Pinned when the token is verified; entries do not record them.
VERIFIED = {"aud", "exp", "iat", "nbf"}
THEIRS = f"stranger/fork/{WORKFLOW}@{MAIN}"
# A reusable workflow that ours calls.
CALLED = f"platform/workflows/.github/workflows/promote.yml@{'e' * 40}"


def check(over: Policy | None = None, commit: str = COMMIT, **changes: Any) -> dict[str, str]:
    """The actor of a valid token with ``changes`` to its claims."""
    return asdict(check_identity(over or policy(), Claims(claims(**changes)), commit))


def refusal(over: Policy | None = None, commit: str = COMMIT, **changes: Any) -> str:
    """The message with which such a token is refused."""
    with pytest.raises(Refused) as caught:
        check(over, commit, **changes)
    message = str(caught.value)
    assert message.startswith("prod is changed only by the CI workflow's verified identity")
    assert "\n" not in message
    return message


# ----- what is let in -------------------------------------------------------------------------


def test_a_good_token_gives_exactly_this_actor() -> None:
    """The pinned claims and the recorded ones, and nothing else."""
    actor = check(jti="once", unknown="x")
    assert actor == {
        **PINNED,
        "jti": "once",
        "repository": REPOSITORY,
        "actor": "octocat",
        "actor_id": "12",
        "run_id": "9876543210",
        "run_attempt": "2",
        "workflow_sha": COMMIT,
    }


@pytest.mark.parametrize("event", ["workflow_dispatch", "issue_comment"])
def test_every_allowed_event_may_start_the_run(event: str) -> None:
    """The policy lists several events."""
    assert check(event_name=event)["event_name"] == event


def test_a_renamed_repository_is_accepted() -> None:
    """Ids identify the repository; its name is used only in the workflow's path."""
    new = f"octo-org/renamed/{WORKFLOW}@{MAIN}"
    actor = check(repository="octo-org/renamed", workflow_ref=new, job_workflow_ref=new)
    assert actor["repository"] == "octo-org/renamed"


def test_a_different_policy_is_enforced() -> None:
    """The policy determines branch, runner and environment."""
    path = f"{REPOSITORY}/{WORKFLOW}@refs/heads/release"
    changes: JsonObject = {
        "ref": "refs/heads/release",
        "environment": "staging",
        "runner_environment": "self-hosted",
    }
    other = policy(**changes)
    actor = check(other, workflow_ref=path, job_workflow_ref=path, **changes)
    assert actor.items() >= changes.items()
    refusal(other)


def test_the_pinned_called_workflow_is_accepted() -> None:
    """The caller is still this repository's own file."""
    actor = check(policy(job_workflow=CALLED), job_workflow_ref=CALLED)
    assert (actor["workflow_ref"], actor["job_workflow_ref"]) == (WORKFLOW_REF, CALLED)


def test_unchecked_claims_are_ignored() -> None:
    """Such claims may be missing, empty or of a different type."""
    good = check(jti="once")
    for value in (REMOVED, "", "other", 7, None, ["x"]):
        changes: JsonObject = dict.fromkeys(UNCHECKED, value)
        assert check(jti="once", **changes) == good


# ----- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PINNED)
@pytest.mark.parametrize(
    "wrong", ["other", " ", "{right} ", " {right}", "{right}x", "{RIGHT}", "{right}\n", "*"]
)
def test_a_wrong_value_of_a_pinned_claim_is_refused(name: str, wrong: str) -> None:
    """The message names the claim, its value and the expected value."""
    right = PINNED[name]
    upper = right.upper() if right.upper() != right else f"0{right}"
    value = wrong.replace("{right}", right).replace("{RIGHT}", upper)
    changes: JsonObject = {name: value}
    message = refusal(**changes)
    assert f"claim {name!r}: got {value!r}, expected " in message
    assert repr(right) in message.partition("expected ")[2]


# Invalid values, derived from the right one.
NO_TEXT: dict[str, Any] = {
    "missing": lambda right: REMOVED,
    "empty": lambda right: "",
    "null": lambda right: None,
    "int": lambda right: int(right) if right.isdigit() else 1,
    "zero": lambda right: 0,
    "float": lambda right: 1.5,
    "true": lambda right: True,
    "false": lambda right: False,
    "list of the right text": lambda right: [right],
    "empty list": lambda right: [],
    "object": lambda right: {right: right},
    "bytes": lambda right: right.encode(),
}


@pytest.mark.parametrize("kind", NO_TEXT)
@pytest.mark.parametrize("name", [*PINNED, *PRESENT])
def test_a_claim_that_is_not_text_is_refused(name: str, kind: str) -> None:
    """This holds even if the value contains or equals the right text."""
    value = NO_TEXT[kind](claims(jti="74")[name])
    message = refusal(**{name: value})
    found = "nothing" if value is REMOVED else repr(value)[:100]
    assert f"claim {name!r}: got {found}, expected " in message


def test_a_long_claim_does_not_flood_the_message() -> None:
    """Only the beginning of a value that is not text is shown."""
    assert len(refusal(actor=["x" * 9999])) < 500


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        pytest.param({"repository_id": "75"}, "repository_id", id="our name, different repository"),
        pytest.param(
            {"repository_owner_id": "66"}, "repository_owner_id", id="our name, different owner"
        ),
        pytest.param(
            {"repository_id": "75", "repository_owner_id": "66"},
            "repository_id",
            id="our name, deleted and taken by a stranger",
        ),
        pytest.param({"repository": "stranger/fork"}, "workflow_ref", id="different name, our ids"),
        pytest.param(
            {"repository": f"{REPOSITORY}/{WORKFLOW}@{MAIN}#"}, "workflow_ref", id="name with path"
        ),
        pytest.param({"ref": "refs/pull/7/merge"}, "ref", id="pull request"),
        pytest.param({"ref": "refs/pull/7/head"}, "ref", id="pull request's head"),
        pytest.param({"ref": "refs/tags/main"}, "ref", id="tag"),
        pytest.param({"ref": "refs/heads/mainx"}, "ref", id="branch of a similar name"),
        pytest.param({"ref": "main"}, "ref", id="short name"),
        pytest.param(
            {"job_workflow_ref": THEIRS}, "job_workflow_ref", id="our workflow calls theirs"
        ),
        pytest.param({"workflow_ref": THEIRS}, "workflow_ref", id="their workflow calls ours"),
        pytest.param(
            {"job_workflow_ref": WORKFLOW_REF.replace(MAIN, "refs/tags/v1")},
            "job_workflow_ref",
            id="our workflow calls ours at a tag",
        ),
        pytest.param(
            {
                "workflow_ref": WORKFLOW_REF.replace(MAIN, "refs/heads/feature"),
                "job_workflow_ref": WORKFLOW_REF.replace(MAIN, "refs/heads/feature"),
            },
            "workflow_ref",
            id="workflow of a different branch",
        ),
        pytest.param(
            {
                "workflow_ref": WORKFLOW_REF.replace("deploy", "lint"),
                "job_workflow_ref": WORKFLOW_REF.replace("deploy", "lint"),
            },
            "workflow_ref",
            id="a different workflow of ours",
        ),
        pytest.param({"runner_environment": "self-hosted"}, "runner_environment", id="self-hosted"),
        pytest.param({"event_name": "pull_request"}, "event_name", id="event"),
        pytest.param({"event_name": "workflow"}, "event_name", id="part of an event's name"),
        pytest.param({"environment": "staging"}, "environment", id="environment"),
        pytest.param({"sha": "d" * 40}, "sha", id="different commit"),
        pytest.param({"sha": COMMIT[:12]}, "sha", id="abbreviated commit"),
        pytest.param({"iss": f"{ISSUER}/"}, "iss", id="issuer with a slash"),
    ],
)
def test_a_run_of_anything_but_our_workflow_is_refused(changes: JsonObject, claim: str) -> None:
    """The token is not for our workflow, on our branch, at this commit."""
    message = refusal(**changes)
    assert f"claim {claim!r}: got " in message
    assert "expected " in message


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        pytest.param({}, "job_workflow_ref", id="a job of our own file"),
        pytest.param(
            {"job_workflow_ref": CALLED.replace("e" * 40, "f" * 40)},
            "job_workflow_ref",
            id="another commit",
        ),
        pytest.param(
            {"job_workflow_ref": CALLED.replace("e" * 40, MAIN)}, "job_workflow_ref", id="a branch"
        ),
        pytest.param(
            {"job_workflow_ref": CALLED.replace("platform", "stranger")},
            "job_workflow_ref",
            id="another owner",
        ),
        pytest.param(
            {"job_workflow_ref": CALLED, "workflow_ref": CALLED},
            "workflow_ref",
            id="the called workflow started by itself",
        ),
        pytest.param(
            {"job_workflow_ref": CALLED, "workflow_ref": THEIRS},
            "workflow_ref",
            id="called by a stranger",
        ),
        pytest.param(
            {"job_workflow_ref": CALLED, "repository_id": "75"},
            "repository_id",
            id="called by another repository",
        ),
    ],
)
def test_with_a_pinned_called_workflow_nothing_else_is_accepted(
    changes: JsonObject, claim: str
) -> None:
    assert f"claim {claim!r}: got " in refusal(policy(job_workflow=CALLED), **changes)


@pytest.mark.parametrize("commit", ["d" * 40, "", COMMIT.upper(), COMMIT[:-1]])
def test_the_checked_out_commit_must_be_the_runs(commit: str) -> None:
    """The commit comes from the working tree, never from the token."""
    assert "claim 'sha'" in refusal(commit=commit)


@pytest.mark.parametrize("name", PINNED)
@given(text=st.text())
def test_no_other_text_is_accepted(name: str, text: str) -> None:
    """Any change of a pinned claim is refused, and the message names the claim."""
    if text == PINNED[name] or (name == "event_name" and text in policy().events):
        return
    assert f"claim {name!r}: got " in refusal_of_any_text(name, text)


def refusal_of_any_text(name: str, text: str) -> str:
    """Like :func:`refusal`, with one changed claim."""
    changes: JsonObject = {name: text}
    with pytest.raises(Refused) as caught:
        check(**changes)
    return str(caught.value)


# ----- empty policies and forgotten claims ----------------------------------------------------

REQUIRED = [field.name for field in fields(Policy) if field.name != "job_workflow"]


@pytest.mark.parametrize(
    "empty",
    [
        None,
        *(policy(**{name: () if name == "events" else ""}) for name in REQUIRED),
    ],
    ids=["none", *REQUIRED],
)
def test_a_policy_that_pins_too_little_refuses(empty: Policy | None) -> None:
    """No field may be empty, and without a policy every token is refused."""
    with pytest.raises(Refused, match=r"fill \[tool\.lynx_pipeline\.identity\]"):
        check_policy(empty)
    if empty is not None:
        # Not even a token with an equally empty claim is accepted.
        blank = dict.fromkeys(PINNED, "")
        for values in (claims(), claims(**blank)):
            with pytest.raises(Refused, match=r"fill \[tool\.lynx_pipeline\.identity\]"):
                check_identity(empty, Claims(values), COMMIT)


def test_a_complete_policy_is_accepted() -> None:
    """The policy is returned unchanged."""
    assert check_policy(policy()) == policy()


@pytest.mark.parametrize("values", [{}, {"jti": "x"}])
def test_empty_claims_are_refused(values: dict[str, str]) -> None:
    """Without claims nothing is proven."""
    with pytest.raises(Refused, match="got nothing"):
        check_identity(policy(), Claims(values), COMMIT)


def test_every_documented_claim_is_classified() -> None:
    """Each is pinned, recorded or left unchecked with a reason, and only one of these."""
    actor = set(check())
    assert actor == PINNED.keys() | set(PRESENT)
    assert not PINNED.keys() & set(PRESENT)
    assert not actor & UNCHECKED.keys()
    assert not VERIFIED & (actor | UNCHECKED.keys())
    assert set(claims()) <= actor | UNCHECKED.keys() | VERIFIED
    assert all(len(reason) > 10 for reason in UNCHECKED.values())
