"""``registry ...``: the commands on a registry in a directory."""

import json
from pathlib import Path

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline.config import Settings
from lynx_pipeline_tests.cli.helpers import Capsys, one_paragraph
from lynx_pipeline_tests.support.builders import RUN, SHA


def test_resolve_prints_what_a_serving_process_needs(promoted: Settings, capsys: Capsys) -> None:
    """This works for ``latest`` and for a version, as text and as JSON."""
    assert main(["registry", "resolve", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": "tiny",
        "semver": "v0.2.0-dev",
        "canonical_sha": "2" * 64,
        "bundle_digest": "2" * 64,
        "mlflow_run_id": RUN,
        "artifact_uri": f"runs:/{RUN}/model",
        "stale": None,
    }
    assert main(["registry", "resolve", "v0.1.0-dev"]) == 0
    assert f"canonical_sha: {'1' * 64}" in capsys.readouterr().out
    assert main(["registry", "resolve", "v0.3.0-dev"]) == 1
    assert "never promoted" in one_paragraph(capsys)


def test_list_show_and_verify_include_a_rollback(promoted: Settings, capsys: Capsys) -> None:
    """A rollback is an additional entry, and the ledger stays intact."""
    assert main(["registry", "rollback", "v0.1.0-dev"]) == 0
    assert main(["registry", "rollback", "v0.9.0-dev"]) == 1
    capsys.readouterr()
    assert main(["registry", "list", "--json"]) == 0
    events = [entry["event"] for entry in json.loads(capsys.readouterr().out)]
    assert events == ["promoted", "promoted", "rolled_back"]
    assert main(["registry", "list", "--env", "prod", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["registry", "list"]) == 0
    assert capsys.readouterr().out.count("WITHOUT EVIDENCE") == 2
    assert main(["registry", "show", "v0.1.0-dev"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert main(["registry", "show", "v0.9.0-dev"]) == 1
    capsys.readouterr()
    assert main(["registry", "verify"]) == 0
    assert "3 entries" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["verify", "list", "resolve", "show v0.1.0-dev"])
def test_a_damaged_registry_is_bad_input(promoted: Settings, capsys: Capsys, command: str) -> None:
    """The message names the line."""
    assert isinstance(promoted.registry, Path)
    file = promoted.registry / "index.jsonl"
    file.write_bytes(file.read_bytes().replace(b"v0.1.0-dev", b"v0.7.0-dev"))
    assert main(["registry", *command.split()]) == 2
    assert "index.jsonl, line 1" in one_paragraph(capsys)


@pytest.mark.filterwarnings("ignore")
def test_a_promotion_by_hand_warns_on_standard_error(promoted: Settings, capsys: Capsys) -> None:
    """The warning appears even if the promotion is refused or warnings are filtered out."""
    assert main(["registry", "promote", SHA, "v0.3.0-dev"]) == 1
    err = capsys.readouterr().err
    assert "WARNING: THIS IS NOT THE CI PATH" in err
    assert "is not registered" in err


@pytest.mark.parametrize(
    "command",
    [
        f"promote {SHA} v0.3.0",
        f"promote {SHA} v0.3.0 --evidence .",
        f"register {RUN}",
        "rollback v0.3.0",
    ],
)
def test_in_prod_a_write_without_identity_is_refused(
    promoted: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Capsys, command: str
) -> None:
    """The exit code is 1. An environment variable is not an identity."""
    monkeypatch.setenv("LYNX_ENV", "prod")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main(["registry", *command.split()]) == 1
    assert "verified identity" in capsys.readouterr().err
