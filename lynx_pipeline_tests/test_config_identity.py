"""The identity policy in pyproject.toml."""

from pathlib import Path

import pytest

from lynx_pipeline.config import load_settings
from lynx_pipeline.domain.release.identity import Policy
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.test_config import REQUIRED, write

IDENTITY = """[tool.lynx_pipeline.identity]
issuer = "https://issuer.example"
audience = "a"
repository_id = "1"
repository_owner_id = "2"
workflow = ".github/workflows/deploy.yml"
environment = "production"
events = ["workflow_dispatch"]
"""
# A reusable workflow; its commit is missing.
CALLED = "octo-org/workflows/.github/workflows/promote.yml"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param('"https:', '"http:', "'issuer': expected an https", id="issuer without TLS"),
        pytest.param("example", "example/", "'issuer'", id="issuer with a slash at the end"),
        pytest.param('audience = "a"', "", "'audience' is missing", id="no audience"),
        pytest.param('"a"', '""', "'audience': expected text", id="empty audience"),
        pytest.param('"a"', '" a"', "'audience': expected text", id="audience with a space"),
        pytest.param('"1"', "1", "'repository_id': expected the number as text", id="id a number"),
        pytest.param('"2"', '"octo"', "'repository_owner_id'", id="owner by name"),
        pytest.param("deploy.yml", "deploy.sh", "'workflow': expected .github", id="no workflow"),
        pytest.param("deploy.yml", "d.yml@main", "'workflow'", id="workflow with a ref"),
        pytest.param('["workflow_dispatch"]', "[]", "'events': expected a list", id="no events"),
        pytest.param('["workflow_dispatch"]', '"push"', "'events'", id="events not a list"),
        pytest.param('["workflow_dispatch"]', '[""]', "'events'", id="empty event"),
        pytest.param("events", 'ref = "main"\nevents', "'ref': expected refs/heads/", id="ref"),
        *(
            pytest.param("events", f'job_workflow = "{it}"\nevents', "'job_workflow'", id=it)
            for it in (
                *(f"{CALLED}@main", f"{CALLED}@{'e' * 39}", f"{CALLED}@{'E' * 40}", CALLED),
                *(f"./.github/workflows/p.yml@{'e' * 40}", f"o/r/p.yml@{'e' * 40}", ""),
            )
        ),
        pytest.param(
            "events",
            f'provider = "gitlab"\njob_workflow = "{CALLED}@{"e" * 40}"\nevents',
            "'job_workflow': expected it only with the provider 'github'",
            id="a called workflow on GitLab",
        ),
        pytest.param("events", "x = 1\nevents", "unknown key 'x'", id="unknown key"),
    ],
)
def test_an_invalid_identity_policy_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    """Each key of the policy is checked separately."""
    assert IDENTITY.count(old) == 1
    with pytest.raises(BadInput, match=rf"\[tool.lynx_pipeline.identity\]: .*{message}"):
        load_settings(write(tmp_path, REQUIRED + IDENTITY.replace(old, new)), {})


def test_the_identity_policy_is_read(tmp_path: Path) -> None:
    """An empty table is no policy; a policy has the defaults of the domain."""
    empty = "[tool.lynx_pipeline.identity]\n"
    assert load_settings(write(tmp_path, REQUIRED + empty), {}).identity is None
    assert load_settings(write(tmp_path, REQUIRED + IDENTITY), {}).identity == Policy(
        issuer="https://issuer.example",
        audience="a",
        repository_id="1",
        repository_owner_id="2",
        workflow=".github/workflows/deploy.yml",
        environment="production",
        events=("workflow_dispatch",),
    )
    called = f"{CALLED}@{'e' * 40}"
    text = f'{REQUIRED}{IDENTITY}job_workflow = "{called}"\n'
    policy = load_settings(write(tmp_path, text), {}).identity
    assert policy is not None
    assert policy.job_workflow == called
