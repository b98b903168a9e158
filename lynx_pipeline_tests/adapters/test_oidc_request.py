"""Requesting the CI job's token over HTTP: a process that gets no token is refused."""

import json
from collections.abc import Callable

import pytest

from lynx_pipeline.adapters.oidc import request_token, verified_claims
from lynx_pipeline.errors import Refused
from lynx_pipeline_tests.adapters.tokens import without_secrets
from lynx_pipeline_tests.support.fake_issuer import (
    BEARER,
    KID,
    TOKEN,
    FakeIssuer,
    gitlab_claims,
    gitlab_policy,
    mint,
    policy,
    rs,
    running,
)
from lynx_pipeline_tests.support.http_server import Answer

pytestmark = pytest.mark.usefixtures("fresh")


def request_refused(*secrets: str) -> str:
    """The message with which requesting a token is refused."""
    with pytest.raises(Refused) as caught:
        request_token(policy())
    message = str(caught.value)
    assert message.startswith("prod is changed only by the CI workflow's verified identity")
    assert len(message) < 600
    return without_secrets(message, BEARER, *secrets)


def test_a_job_on_gitlab_has_its_token_in_a_variable(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is verified like any other. What GitHub's jobs have is not looked at."""
    for name, value in issuer.job.items():
        monkeypatch.setenv(name, value)
    over = gitlab_policy(issuer=issuer.url)
    with pytest.raises(Refused) as caught:
        request_token(over)
    assert "'id_tokens: {LYNX_ID_TOKEN: {aud: lynx-pipeline}}'" in str(caught.value)
    claims = gitlab_claims(iss=issuer.url)
    monkeypatch.setenv("LYNX_ID_TOKEN", mint({"alg": "RS256", "kid": KID}, claims, rs()))
    assert verified_claims(over).values == claims
    forged = mint({"alg": "RS256", "kid": KID}, claims, rs("another key"))
    monkeypatch.setenv("LYNX_ID_TOKEN", forged)
    with pytest.raises(Refused, match="Signature verification failed"):
        verified_claims(over)
    assert issuer.requested_paths.count(TOKEN) == 0


def test_outside_a_ci_job_there_is_no_token() -> None:
    """The message says to promote through the deploy workflow."""
    assert "this is not a CI job. Promote through the deploy workflow." in request_refused()


@pytest.mark.parametrize("value", ["true", "1", "false"])
def test_pretending_to_be_a_job_gives_no_token(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The message names the permission that a job needs."""
    monkeypatch.setenv("GITHUB_ACTIONS", value)
    monkeypatch.setenv("CI", "true")
    assert "permissions: id-token: write" in request_refused()
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", BEARER)
    assert "permissions: id-token: write" in request_refused()


def _json(value: object) -> Answer:
    return Answer(json.dumps(value).encode())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda t: Answer(f"bearer {BEARER}: {t}".encode(), 403), id="403, echoing"),
        pytest.param(lambda t: Answer(json.dumps({"x": [t, BEARER]}).encode(), 403), id="403"),
        pytest.param(lambda t: Answer(b"\xff\xfe", 403), id="403, not text"),
        pytest.param(lambda t: Answer(b"x" * 99_999, 500), id="500, long"),
        pytest.param(lambda t: Answer(t.encode()), id="the token alone"),
        pytest.param(lambda t: Answer(b"<html>"), id="not JSON"),
        pytest.param(lambda t: Answer(b""), id="empty body"),
        pytest.param(lambda t: _json([t]), id="a list"),
        pytest.param(lambda t: _json({"token": t}), id="different key"),
        pytest.param(lambda t: _json({"value": None}), id="null"),
        pytest.param(lambda t: _json({"value": [t]}), id="a list of tokens"),
        pytest.param(lambda t: _json({"value": ""}), id="empty"),
        pytest.param(lambda t: _json({"value": f"{t}.{t}"}), id="two tokens"),
        pytest.param(lambda t: _json({"value": t.split(".")[0]}), id="a header alone"),
        pytest.param(lambda t: _json({"value": t[:-600]}), id="cut off"),
        pytest.param(lambda t: _json({"value": "é.é.é"}), id="not ASCII"),
    ],
)
def test_a_response_without_a_valid_token_is_refused(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], Answer]
) -> None:
    """Whatever the runner responds, the message contains neither its bearer token nor ours."""
    for name, value in issuer.job.items():
        monkeypatch.setenv(name, value)
    token = issuer.token()
    issuer.answers[TOKEN] = answer(token)
    request_refused(token)


def test_a_token_for_a_different_audience_is_refused(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner returns a token for an audience that was not requested."""
    for name, value in issuer.job.items():
        monkeypatch.setenv(name, value)
    issuer.token_to_give = issuer.token(aud="somebody else")
    assert "somebody else" in request_refused(issuer.token_to_give)


def test_an_unreachable_runner_or_a_rejected_request_is_refused(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another job's bearer token, a server that is down, and invalid addresses."""
    for name, value in issuer.job.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", f"{BEARER}x")
    assert "401" in request_refused()
    with running() as stopped:
        pass
    for url in (f"{stopped.url}{TOKEN}", "nonsense", "http://[", "ftp://127.0.0.1/token"):
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", url)
        request_refused()


def test_a_token_from_an_attackers_runner_does_not_verify(
    issuer: FakeIssuer, evil: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token's source needs no trust: the keys come from the policy's issuer."""
    for name, value in evil.job.items():
        monkeypatch.setenv(name, value)
    evil.token_to_give = evil.token(sign=rs("evil"), iss=issuer.url)
    with pytest.raises(Refused, match="Signature verification failed"):
        verified_claims(issuer.policy())
