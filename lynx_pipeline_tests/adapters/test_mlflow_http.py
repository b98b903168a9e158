"""Requests to MLflow's server: credentials, certificates, and answers that are no use."""

import base64
import ssl
from pathlib import Path

import pytest

from lynx_pipeline.adapters import mlflow_server
from lynx_pipeline.errors import BadInput, LynxError, NotFound, SystemFailed
from lynx_pipeline_tests.support.certificates import certificate
from lynx_pipeline_tests.support.fake_mlflow import MODEL, ROOT, Mlflow, as_json
from lynx_pipeline_tests.support.http_server import Answer, serving


@pytest.mark.parametrize(
    ("uri", "variables", "expected"),
    [
        pytest.param("", {}, "", id="none"),
        pytest.param("", {"TOKEN": "t"}, "Bearer t", id="token"),
        pytest.param("", {"USERNAME": "u", "PASSWORD": "p", "TOKEN": "t"}, "u:p", id="password"),
        pytest.param("a%40b:c@", {"USERNAME": "u", "PASSWORD": "p"}, "a@b:c", id="in the URI"),
        pytest.param("", {"FILE": "f"}, "f:g", id="MLflow's file"),
        pytest.param("", {"FILE": "f", "PASSWORD": "p"}, "f:p", id="both"),
    ],
)
def test_credentials_are_those_of_mlflows_client(
    mlflow: Mlflow,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uri: str,
    variables: dict[str, str],
    expected: str,
) -> None:
    """The order is MLflow's, too."""
    for name, value in variables.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    if "FILE" in variables:
        (tmp_path / ".mlflow").mkdir()
        (tmp_path / ".mlflow/credentials").write_text(
            "[mlflow]\nmlflow_tracking_username = f\nmlflow_tracking_password = g\n"
        )
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team")
    mlflow_server.logged_model_location(url.replace("//", f"//{uri}"), MODEL)
    if ":" in expected:
        expected = f"Basic {base64.b64encode(expected.encode()).decode()}"
    (request,) = mlflow.requests
    assert request.authorization == expected
    assert request.headers["X-MLFLOW-WORKSPACE"] == "team"


@pytest.mark.parametrize(
    ("answer", "message", "tries"),
    [
        pytest.param(Answer(b"x", 401), "status 401, access denied; set MLFLOW_", 1, id="401"),
        pytest.param(Answer(b"<html>", 503), "status 503", 2, id="503"),
        pytest.param(
            Answer(b'{"message": "full\\u001b"}', 500), r"status 500, full\?\.", 2, id="500"
        ),
        pytest.param(Answer(b"<html>", 404), "status 404", 1, id="404"),
        pytest.param(
            Answer(b"<html>", headers={"Content-Type": "text/html"}),
            "expected a JSON object, got text/html.*login page",
            1,
            id="HTML",
        ),
        pytest.param(Answer(b"[" * 100_000), "expected a JSON object", 1, id="deep JSON"),
        pytest.param(as_json([]), "expected a JSON object", 1, id="a list"),
        pytest.param(as_json({}), f"expected the logged model {MODEL}, got None", 1, id="empty"),
        pytest.param(
            as_json({"model": {"info": {"model_id": "m-2", "artifact_uri": ROOT}}}),
            "got 'm-2'",
            1,
            id="another model",
        ),
    ],
)
def test_an_answer_that_is_no_use_is_a_system_failure(
    mlflow: Mlflow, url: str, answer: Answer, message: str, tries: int
) -> None:
    """What may be temporary is tried again."""
    mlflow.override = lambda _: answer
    with pytest.raises(SystemFailed, match=message) as caught:
        mlflow_server.logged_model_location(url, MODEL)
    assert f"MLflow at {url}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(mlflow.requests) == tries


def test_a_model_that_is_missing_is_not_found(mlflow: Mlflow, url: str) -> None:
    """The message says what is missing where."""
    missing = b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such model"}'
    mlflow.override = lambda _: Answer(missing, 404)
    with pytest.raises(NotFound, match=f"MLflow at {url} has no logged model {MODEL}. It may have"):
        mlflow_server.logged_model_location(url, MODEL)


def test_a_redirect_is_not_followed(
    mlflow: Mlflow, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could send the credentials to another host."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    elsewhere = Mlflow()
    with serving(elsewhere.answer) as other:
        target = {"Location": f"{other}/api/2.0/mlflow/logged-models/{MODEL}"}
        for status in (301, 302, 303, 307, 308):
            mlflow.override = lambda _, status=status: Answer(b"", status, target)  # type: ignore[misc]
            with pytest.raises(SystemFailed, match=f"status {status}, redirects are not followed"):
                mlflow_server.logged_model_location(url, MODEL)
    assert elsewhere.requests == []


def test_tls_is_verified_with_the_given_certificates(
    mlflow: Mlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides present one. The same file serves as authority, certificate and key."""
    pem = tmp_path / "both.pem"
    pem.write_bytes(certificate())
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pem))
    tls.load_cert_chain(pem)
    tls.verify_mode = ssl.CERT_REQUIRED
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    with serving(mlflow.answer, tls) as url:

        def location() -> str:
            return mlflow_server.logged_model_location(url, MODEL)

        with pytest.raises(SystemFailed, match="CERTIFICATE_VERIFY_FAILED"):
            location()
        for variable in ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE"):
            monkeypatch.setenv(variable, str(pem))
            with pytest.raises(SystemFailed):  # no certificate of our own
                location()
            monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", str(pem))
            assert location() == ROOT
            monkeypatch.delenv("MLFLOW_TRACKING_CLIENT_CERT_PATH")
            monkeypatch.delenv(variable)
        monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", str(pem))
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        assert location() == ROOT


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "-1"),
        ("MLFLOW_TRACKING_TOKEN", "a\nb"),
        ("MLFLOW_TRACKING_SERVER_CERT_PATH", "/nonexistent"),
        ("MLFLOW_TRACKING_CLIENT_CERT_PATH", "/nonexistent"),
    ],
)
def test_an_invalid_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """A token is not shown."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadInput, match=variable) as caught:
        mlflow_server.logged_model_location("https://127.0.0.1:9", MODEL)
    assert "a\nb" not in str(caught.value)


@pytest.mark.parametrize("uri", ["http://", "http://host:port", "http://[", "http://u:secret@:80"])
def test_an_invalid_address_is_bad_input(uri: str) -> None:
    """A password in it is not shown."""
    with pytest.raises(LynxError, match="MLFLOW_TRACKING_URI is") as caught:
        mlflow_server.logged_model_location(uri, MODEL)
    assert "secret" not in str(caught.value)
