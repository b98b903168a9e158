"""The pipeline of the page "On GitLab", and the policy of that page. What its jobs run is run in
``registry/prod/test_gitlab.py``."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from lynx_pipeline.config.parse import parse_table
from lynx_pipeline.domain.release.identity import Claims, Policy, check_identity
from lynx_pipeline_tests.support.fake_issuer import COMMIT, gitlab_claims
from lynx_pipeline_tests.support.gitlab_page import block, pipeline


def test_the_inputs_are_a_run_id_a_version_and_a_number() -> None:
    """Nothing else reaches the jobs."""
    head, _ = yaml.safe_load_all(block("yaml"))
    inputs = {name: re.compile(it["regex"]) for name, it in head["spec"]["inputs"].items()}
    assert inputs["run_id"].search("0123456789abcdef" * 2)
    assert inputs["semver"].search("v1.20.3")
    number = inputs["merge_request"]
    assert number.search(head["spec"]["inputs"]["merge_request"]["default"])  # GitLab checks it too
    assert number.search("123")
    for bad in ("0", "-1", "1;id", "$(id)", "1 2", "9" * 19):
        assert not number.search(bad), bad
    del inputs["merge_request"]
    for bad in ("", "$(id)", "v1.2", "v1x2x3", "v1.2.3-dev", " v1.2.3", "v1.2.3;id"):
        assert not any(it.search(bad) for it in inputs.values()), bad


def test_the_pages_policy_accepts_a_job_of_its_pipeline() -> None:
    table = tomllib.loads(block("toml"))["tool"]["lynx_pipeline"]
    identity = parse_table({"model": "m", **table}, "the page").identity
    assert identity is not None
    over = Policy(**{name: getattr(identity, name) for name in Policy.__slots__})
    claims = gitlab_claims(runner_environment="gitlab-hosted")
    assert check_identity(over, Claims(claims), COMMIT).repository_id == "74"


def test_the_jobs_are_separated_by_trust() -> None:
    """Only the job that runs no model has the identity, in the environment of the policy. The one
    with the token for notes has another environment."""
    found = pipeline()
    jobs = {name: it for name, it in found.items() if "script" in it}
    assert [*jobs] == ["evaluate", "promote", "report"]
    assert "id_tokens" not in jobs["evaluate"]
    assert "environment" not in jobs["evaluate"]
    promote = jobs["promote"]
    assert promote["id_tokens"] == {"LYNX_ID_TOKEN": {"aud": "lynx-pipeline"}}
    assert promote["environment"] == "production"
    assert not any("minieval" in line or "run " in line for line in promote["script"])
    assert jobs["report"]["environment"] == {"name": "report", "action": "access"}
    assert "id_tokens" not in jobs["report"]
    assert found["variables"]["LYNX_ENV"] == "prod"


def test_the_lines_are_valid_shell(tmp_path: Path) -> None:
    found = pipeline()
    for job in ("evaluate", "promote", "report"):
        given = ': "$RUN_ID$SEMVER$MERGE_REQUEST"'
        script = "\n".join(["#!/bin/sh", "set -eu", given, *found[job]["script"]])
        done = subprocess.run(
            ["shellcheck", "-"], input=script, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_git_gets_the_registrys_password_from_the_variable(tmp_path: Path) -> None:
    """GitLab replaces the two dollar signs by one."""
    variables = {
        name: str(value).replace("$$", "$")
        for name, value in pipeline()["promote"]["variables"].items()
    }
    given = {"REGISTRY_TOKEN": "secret", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        ["git", "credential", "fill"],
        input="protocol=https\nhost=gitlab.example.com\n\n",
        env={**variables, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "username=oauth2\npassword=secret\n" in done.stdout
