"""Asking the CI job for its token over HTTP: whoever is given none is refused."""

import json
from collections.abc import Callable

import pytest

from lynx_pipeline.adapters.oidc import request_token, verified_claims
from lynx_pipeline.errors import Refused
from lynx_pipeline_tests.adapters.tokens import secret
from lynx_pipeline_tests.support.fake_issuer import (
    AUDIENCE,
    BEARER,
    TOKEN,
    Answer,
    FakeIssuer,
    rs,
    running,
)

pytestmark = pytest.mark.usefixtures("fresh")


def not_given(*secrets: str) -> str:
    """How asking for a token is refused."""
    with pytest.raises(Refused) as caught:
        request_token(AUDIENCE)
    said = str(caught.value)
    assert said.startswith("prod is changed only by the CI workflow's verified identity")
    assert len(said) < 600
    return secret(said, BEARER, *secrets)


def test_without_a_job_there_is_no_token() -> None:
    """It says what to do."""
    assert "this is no CI job. Promote through the deploy workflow." in not_given()


@pytest.mark.parametrize("value", ["true", "1", "false"])
def test_pretending_to_be_a_job_gives_no_token(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """It names the permission that a job would need."""
    monkeypatch.setenv("GITHUB_ACTIONS", value)
    monkeypatch.setenv("CI", "true")
    assert "permissions: id-token: write" in not_given()
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", BEARER)
    assert "permissions: id-token: write" in not_given()


def _said(value: object) -> Answer:
    return Answer(json.dumps(value).encode())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda t: Answer(f"bearer {BEARER}: {t}".encode(), 403), id="403, echoing"),
        pytest.param(lambda t: Answer(json.dumps({"x": [t, BEARER]}).encode(), 403), id="403"),
        pytest.param(lambda t: Answer(b"\xff\xfe", 403), id="403, no text"),
        pytest.param(lambda t: Answer(b"x" * 99_999, 500), id="500, long"),
        pytest.param(lambda t: Answer(t.encode()), id="the token alone"),
        pytest.param(lambda t: Answer(b"<html>"), id="no JSON"),
        pytest.param(lambda t: Answer(b""), id="nothing"),
        pytest.param(lambda t: _said([t]), id="a list"),
        pytest.param(lambda t: _said({"token": t}), id="another key"),
        pytest.param(lambda t: _said({"value": None}), id="null"),
        pytest.param(lambda t: _said({"value": [t]}), id="a list of tokens"),
        pytest.param(lambda t: _said({"value": ""}), id="empty"),
        pytest.param(lambda t: _said({"value": f"{t}.{t}"}), id="two tokens"),
        pytest.param(lambda t: _said({"value": t.split(".")[0]}), id="a header alone"),
        pytest.param(lambda t: _said({"value": t[:-600]}), id="cut off"),
        pytest.param(lambda t: _said({"value": "é.é.é"}), id="not ASCII"),
    ],
)
def test_a_job_that_is_not_given_a_token_is_refused(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], Answer]
) -> None:
    """Whatever the runner answers, the message holds neither its token nor ours."""
    for name, value in issuer.job.items():
        monkeypatch.setenv(name, value)
    token = issuer.token()
    issuer.answers[TOKEN] = answer(token)
    not_given(token)


def test_a_token_for_somebody_else_is_refused(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner was asked for one for us."""
    for name, value in issuer.job.items():
        monkeypatch.setenv(name, value)
    issuer.token_to_give = issuer.token(aud="somebody else")
    assert "somebody else" in not_given(issuer.token_to_give)


def test_a_runner_that_is_gone_or_does_not_know_us_is_refused(
    issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bearer of another job, no address, and an address that is none."""
    for name, value in issuer.job.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", f"{BEARER}x")
    assert "401" in not_given()
    with running() as gone:
        pass
    for url in (f"{gone.url}{TOKEN}", "nonsense", "http://[", "ftp://127.0.0.1/token"):
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", url)
        not_given()


def test_a_runner_of_anybodys_gives_tokens_that_do_not_verify(
    issuer: FakeIssuer, evil: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the token comes from needs no trust: the keys are the policy's issuer's."""
    for name, value in evil.job.items():
        monkeypatch.setenv(name, value)
    evil.token_to_give = evil.token(sign=rs("evil"), iss=issuer.url)
    with pytest.raises(Refused, match="Signature verification failed"):
        verified_claims(issuer.policy())
