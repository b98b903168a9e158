"""The policy over a verified token's claims: what it pins, and that nothing slips past it."""

from dataclasses import asdict, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.release.identity import (
    PRESENT,
    UNCHECKED,
    Claims,
    Policy,
    check_identity,
    check_policy,
)
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

# Each pinned claim, and what the default policy expects of it.
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
# These the token's verification pins; no entry names them.
VERIFIED = {"aud", "exp", "iat", "nbf"}
THEIRS = f"stranger/fork/{WORKFLOW}@{MAIN}"


def check(over: Policy | None = None, commit: str = COMMIT, **changes: Any) -> dict[str, str]:
    """The actor of a token that is good but for ``changes``."""
    return asdict(check_identity(over or policy(), Claims(claims(**changes)), commit))


def refusal(over: Policy | None = None, commit: str = COMMIT, **changes: Any) -> str:
    """How such a token is refused."""
    with pytest.raises(Refused) as caught:
        check(over, commit, **changes)
    said = str(caught.value)
    assert said.startswith("prod is changed only by the CI workflow's verified identity")
    assert "\n" not in said
    return said


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
    """The policy lists several."""
    assert check(event_name=event)["event_name"] == event


def test_a_renamed_repository_is_still_ours() -> None:
    """Ids say which repository it is; its name goes into the workflow's path alone."""
    new = f"octo-org/renamed/{WORKFLOW}@{MAIN}"
    actor = check(repository="octo-org/renamed", workflow_ref=new, job_workflow_ref=new)
    assert actor["repository"] == "octo-org/renamed"


def test_another_policy_is_followed() -> None:
    """Branch, runner and environment are the policy's to say."""
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


def test_what_is_not_checked_does_not_matter() -> None:
    """Missing, empty or of another type: nobody reads these."""
    good = check(jti="once")
    for value in (REMOVED, "", "other", 7, None, ["x"]):
        changes: JsonObject = dict.fromkeys(UNCHECKED, value)
        assert check(jti="once", **changes) == good


# ----- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PINNED)
@pytest.mark.parametrize(
    "wrong", ["other", " ", "{right} ", " {right}", "{right}x", "{RIGHT}", "{right}\n", "*"]
)
def test_a_pinned_claim_of_another_value_is_refused(name: str, wrong: str) -> None:
    """The message names the claim, what it was, and what it has to be."""
    right = PINNED[name]
    upper = right.upper() if right.upper() != right else f"0{right}"
    value = wrong.replace("{right}", right).replace("{RIGHT}", upper)
    changes: JsonObject = {name: value}
    said = refusal(**changes)
    assert f"claim {name!r}: got {value!r}, expected " in said
    assert repr(right) in said.partition("expected ")[2]


# Values that no claim may have, made of the right one.
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
def test_a_claim_that_is_no_text_is_refused(name: str, kind: str) -> None:
    """Also where it would hold or equal the right text."""
    value = NO_TEXT[kind](claims(jti="74")[name])
    said = refusal(**{name: value})
    found = "nothing" if value is REMOVED else repr(value)[:100]
    assert f"claim {name!r}: got {found}, expected " in said


def test_a_long_claim_does_not_flood_the_message() -> None:
    """What is no text is shown by its beginning."""
    assert len(refusal(actor=["x" * 9999])) < 500


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        pytest.param({"repository_id": "75"}, "repository_id", id="our name, another repository"),
        pytest.param(
            {"repository_owner_id": "66"}, "repository_owner_id", id="our name, another owner"
        ),
        pytest.param(
            {"repository_id": "75", "repository_owner_id": "66"},
            "repository_id",
            id="our name, deleted and taken by a stranger",
        ),
        pytest.param({"repository": "stranger/fork"}, "workflow_ref", id="another name, our ids"),
        pytest.param(
            {"repository": f"{REPOSITORY}/{WORKFLOW}@{MAIN}#"}, "workflow_ref", id="name with path"
        ),
        pytest.param({"ref": "refs/pull/7/merge"}, "ref", id="pull request"),
        pytest.param({"ref": "refs/pull/7/head"}, "ref", id="pull request's head"),
        pytest.param({"ref": "refs/tags/main"}, "ref", id="tag"),
        pytest.param({"ref": "refs/heads/mainx"}, "ref", id="branch of a similar name"),
        pytest.param({"ref": "main"}, "ref", id="short name"),
        pytest.param({"job_workflow_ref": THEIRS}, "job_workflow_ref", id="we call theirs"),
        pytest.param({"workflow_ref": THEIRS}, "workflow_ref", id="they call ours"),
        pytest.param(
            {"job_workflow_ref": WORKFLOW_REF.replace(MAIN, "refs/tags/v1")},
            "job_workflow_ref",
            id="we call our own, at a tag",
        ),
        pytest.param(
            {
                "workflow_ref": WORKFLOW_REF.replace(MAIN, "refs/heads/feature"),
                "job_workflow_ref": WORKFLOW_REF.replace(MAIN, "refs/heads/feature"),
            },
            "workflow_ref",
            id="workflow of another branch",
        ),
        pytest.param(
            {
                "workflow_ref": WORKFLOW_REF.replace("deploy", "lint"),
                "job_workflow_ref": WORKFLOW_REF.replace("deploy", "lint"),
            },
            "workflow_ref",
            id="another workflow of ours",
        ),
        pytest.param({"runner_environment": "self-hosted"}, "runner_environment", id="self-hosted"),
        pytest.param({"event_name": "pull_request"}, "event_name", id="event"),
        pytest.param({"event_name": "workflow"}, "event_name", id="part of an event's name"),
        pytest.param({"environment": "staging"}, "environment", id="environment"),
        pytest.param({"sha": "d" * 40}, "sha", id="another commit"),
        pytest.param({"sha": COMMIT[:12]}, "sha", id="abbreviated commit"),
        pytest.param({"iss": f"{ISSUER}/"}, "iss", id="issuer with a slash"),
    ],
)
def test_a_run_that_is_not_the_workflows_own_is_refused(changes: JsonObject, claim: str) -> None:
    """Whoever's token it is, it is not that of our workflow, on our branch, for this commit."""
    said = refusal(**changes)
    assert f"claim {claim!r}: got " in said
    assert "expected " in said


@pytest.mark.parametrize("commit", ["d" * 40, "", COMMIT.upper(), COMMIT[:-1]])
def test_what_is_checked_out_has_to_be_what_the_run_is_for(commit: str) -> None:
    """The commit is the working tree's, never the token's."""
    assert "claim 'sha'" in refusal(commit=commit)


@pytest.mark.parametrize("name", PINNED)
@given(text=st.text())
def test_no_other_text_is_let_in(name: str, text: str) -> None:
    """Any change of any pinned claim is refused, and its message names the claim."""
    if text == PINNED[name] or (name == "event_name" and text in policy().events):
        return
    assert f"claim {name!r}: got " in refusal_of_any_text(name, text)


def refusal_of_any_text(name: str, text: str) -> str:
    """As :func:`refusal`."""
    changes: JsonObject = {name: text}
    with pytest.raises(Refused) as caught:
        check(**changes)
    return str(caught.value)


# ----- empty policies and forgotten claims ----------------------------------------------------


@pytest.mark.parametrize(
    "empty",
    [
        None,
        *(policy(**{f.name: () if f.name == "events" else ""}) for f in fields(Policy)),
    ],
    ids=["none", *(f.name for f in fields(Policy))],
)
def test_a_policy_that_pins_too_little_refuses(empty: Policy | None) -> None:
    """No part of it may be empty, and that there is none lets nobody in."""
    with pytest.raises(Refused, match=r"fill \[tool\.lynx_pipeline\.identity\]"):
        check_policy(empty)
    if empty is not None:
        # Not even a token with the same emptiness.
        blank = dict.fromkeys(PINNED, "")
        for values in (claims(), claims(**blank)):
            with pytest.raises(Refused, match=r"fill \[tool\.lynx_pipeline\.identity\]"):
                check_identity(empty, Claims(values), COMMIT)


def test_a_full_policy_is_given_back() -> None:
    """Unchanged."""
    assert check_policy(policy()) == policy()


@pytest.mark.parametrize("values", [{}, {"jti": "x"}])
def test_empty_claims_are_refused(values: dict[str, str]) -> None:
    """Nothing claimed is nothing proven."""
    with pytest.raises(Refused, match="got nothing"):
        check_identity(policy(), Claims(values), COMMIT)


def test_every_documented_claim_has_its_class() -> None:
    """Pinned, kept or left unchecked with a reason, and none of them twice."""
    actor = set(check())
    assert actor == PINNED.keys() | set(PRESENT)
    assert not PINNED.keys() & set(PRESENT)
    assert not actor & UNCHECKED.keys()
    assert not VERIFIED & (actor | UNCHECKED.keys())
    assert set(claims()) <= actor | UNCHECKED.keys() | VERIFIED
    assert all(len(reason) > 10 for reason in UNCHECKED.values())
