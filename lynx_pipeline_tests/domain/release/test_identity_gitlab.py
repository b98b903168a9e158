"""The policy for the claims of a job on GitLab: the same fields, under GitLab's names."""

from dataclasses import asdict, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.ledger.facts import Actor
from lynx_pipeline.domain.release.identity import (
    Claims,
    Policy,
    check_actor,
    check_identity,
    run_page,
)
from lynx_pipeline.domain.release.providers import GITLAB, PROVIDERS
from lynx_pipeline.errors import Refused
from lynx_pipeline_tests.support.builders import JsonObject
from lynx_pipeline_tests.support.fake_issuer import (
    COMMIT,
    MAIN,
    REMOVED,
    REPOSITORY,
    gitlab_claims,
    gitlab_policy,
    policy,
)

PROVIDER = PROVIDERS[GITLAB]
CONFIG = f"gitlab.example.com/{REPOSITORY}//.gitlab-ci.yml@{MAIN}"
# Each pinned claim, and its value in the default policy.
PINNED = {
    "iss": "https://gitlab.example.com",
    "project_id": "74",
    "namespace_id": "65",
    "ci_config_ref_uri": CONFIG,
    "ref_path": MAIN,
    "ref_protected": "true",
    "sha": COMMIT,
    "environment": "production",
    "runner_environment": "self-hosted",
    "pipeline_source": "web",
}
PRESENT = (
    *("jti", "project_path", "user_login", "user_id", "pipeline_id", "job_id", "ci_config_sha"),
)
# Pinned when the token is verified; entries do not record them.
VERIFIED = {"aud", "exp", "iat", "nbf"}


def check(over: Policy | None = None, commit: str = COMMIT, **changes: Any) -> Actor:
    """The actor of a valid token with ``changes`` to its claims."""
    return check_identity(over or gitlab_policy(), Claims(gitlab_claims(**changes)), commit)


def refusal(over: Policy | None = None, commit: str = COMMIT, **changes: Any) -> str:
    """The message with which such a token is refused."""
    with pytest.raises(Refused) as caught:
        check(over, commit, **changes)
    message = str(caught.value)
    assert message.startswith("prod is changed only by the CI workflow's verified identity")
    return message


def test_a_good_token_gives_exactly_this_actor() -> None:
    """The entry has the fields that it has for GitHub, and can be checked again by them."""
    actor = check(jti="once", unknown="x")
    assert asdict(actor) == {
        "jti": "once",
        "iss": "https://gitlab.example.com",
        "sha": COMMIT,
        "ref": MAIN,
        "repository": REPOSITORY,
        "repository_id": "74",
        "repository_owner_id": "65",
        "workflow_ref": CONFIG,
        "workflow_sha": COMMIT,
        "job_workflow_ref": CONFIG,
        "environment": "production",
        "runner_environment": "self-hosted",
        "event_name": "web",
        "actor": "octocat",
        "actor_id": "12",
        "run_id": "9876543210",
        "run_attempt": "302",
    }
    check_actor(gitlab_policy(), actor, COMMIT)
    with pytest.raises(Refused, match="claim 'repository_id': got '74', expected '75'"):
        check_actor(gitlab_policy(repository_id="75"), actor, COMMIT)
    page = run_page(actor, "https://github.com", gitlab_policy())
    assert page == f"https://gitlab.example.com/{REPOSITORY}/-/pipelines/9876543210"


@pytest.mark.parametrize("issuer", ["javascript:alert(1)//", "https://evil.example"])
def test_a_forged_entry_links_to_no_other_server(issuer: str) -> None:
    """Whoever can push to the registry's branch writes what they like into an entry."""
    forged = replace(check(), iss=issuer)
    for over in (gitlab_policy(), None):
        assert run_page(forged, "https://github.com", over) == ""


@pytest.mark.parametrize("source", ["web", "api"])
def test_every_allowed_source_may_start_the_pipeline(source: str) -> None:
    assert check(pipeline_source=source).event_name == source


@pytest.mark.parametrize("name", PINNED)
@pytest.mark.parametrize("wrong", ["other", " ", "{}x", " {}", "{} ", "{}\n", "*", "false"])
def test_a_wrong_value_of_a_pinned_claim_is_refused(name: str, wrong: str) -> None:
    """The message names GitLab's claim, its value and the expected value."""
    value = wrong.format(PINNED[name])
    changes: JsonObject = {name: value}
    message = refusal(**changes)
    assert f"claim {name!r}: got {value!r}, expected " in message
    assert repr(PINNED[name]) in message.partition("expected ")[2]


@pytest.mark.parametrize("name", [*PINNED, *PRESENT])
@pytest.mark.parametrize("value", [REMOVED, "", None, 74, 0, True, 1.5, ["74"], {}, b"74"])
def test_a_claim_that_is_missing_or_not_text_is_refused(name: str, value: Any) -> None:
    """GitLab sends numbers as text, and truth values too."""
    found = "nothing" if value is REMOVED else repr(value)[:100]
    assert f"claim {name!r}: got {found}, expected " in refusal(**{name: value})


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        pytest.param({"project_id": "75"}, "project_id", id="our path, different project"),
        pytest.param({"namespace_id": "66"}, "namespace_id", id="our path, different namespace"),
        pytest.param({"project_path": "stranger/fork"}, "ci_config_ref_uri", id="different path"),
        pytest.param({"ref_path": "refs/heads/feature"}, "ref_path", id="branch"),
        pytest.param({"ref_path": "refs/tags/main"}, "ref_path", id="tag of the branch's name"),
        pytest.param(
            {"ref_path": "refs/merge-requests/7/head"}, "ref_path", id="merge request's head"
        ),
        pytest.param({"ref_protected": "false"}, "ref_protected", id="unprotected branch"),
        pytest.param({"pipeline_source": "merge_request_event"}, "pipeline_source", id="source"),
        pytest.param({"pipeline_source": "push"}, "pipeline_source", id="push"),
        pytest.param({"environment": "staging"}, "environment", id="environment"),
        pytest.param({"environment": REMOVED}, "environment", id="job without an environment"),
        pytest.param(
            {"ci_config_ref_uri": f"gitlab.com/{REPOSITORY}//.gitlab-ci.yml@{MAIN}"},
            "ci_config_ref_uri",
            id="different server",
        ),
        pytest.param(
            {"ci_config_ref_uri": CONFIG.replace(".gitlab-ci", "ci/other")},
            "ci_config_ref_uri",
            id="different configuration",
        ),
        pytest.param(
            {"ci_config_ref_uri": None}, "ci_config_ref_uri", id="configuration elsewhere"
        ),
        pytest.param({"iss": "https://gitlab.com"}, "iss", id="different issuer"),
        pytest.param({"sha": "d" * 40}, "sha", id="different commit"),
    ],
)
def test_a_job_of_anything_but_our_pipeline_is_refused(changes: JsonObject, claim: str) -> None:
    assert f"claim {claim!r}: got " in refusal(**{"iss": "https://gitlab.example.com", **changes})


@pytest.mark.parametrize("name", PINNED)
@given(text=st.text())
def test_no_other_text_is_accepted(name: str, text: str) -> None:
    if text == PINNED[name] or (name == "pipeline_source" and text in gitlab_policy().events):
        return
    changes: JsonObject = {name: text}
    with pytest.raises(Refused) as caught:
        check(**changes)
    assert f"claim {name!r}: got " in str(caught.value)


def test_unchecked_claims_are_ignored() -> None:
    """Such claims may be missing, empty or of a different type."""
    good = check(jti="once")
    for value in (REMOVED, "", "other", 7, None, ["x"]):
        changes: JsonObject = dict.fromkeys(PROVIDER.unchecked, value)
        assert check(jti="once", **changes) == good


def test_every_documented_claim_is_in_exactly_one_class() -> None:
    recorded = {PROVIDER.claims.get(it.name, it.name) for it in fields(Actor)}
    assert recorded == {*PINNED, *PRESENT} - PROVIDER.constant.keys()
    checked = recorded | PROVIDER.constant.keys() | VERIFIED
    assert not checked & PROVIDER.unchecked.keys()
    assert {*gitlab_claims()} == checked | PROVIDER.unchecked.keys()
    assert all(len(reason) > 10 for reason in PROVIDER.unchecked.values())


def test_a_policy_for_one_provider_refuses_the_tokens_of_the_other() -> None:
    """Even if they came from the same issuer."""
    assert "claim 'repository'" in refusal(policy(issuer="https://gitlab.example.com"))


@pytest.mark.parametrize(
    "host", ["gitlab.example.com", "gitlab.example.com:8443", "example.com/gitlab"]
)
def test_the_servers_address_is_part_of_the_configurations(host: str) -> None:
    """With its port and its path, if it has them."""
    issuer = f"https://{host}"
    actor = check(gitlab_policy(issuer=issuer), iss=issuer)
    assert actor.workflow_ref == f"{host}/{REPOSITORY}//.gitlab-ci.yml@{MAIN}"
