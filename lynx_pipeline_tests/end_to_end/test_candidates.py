"""``candidates``: what is archived leaves Dagster, and nothing else."""

import json

import pytest

from lynx_pipeline_tests.end_to_end.conftest import Demo, files_in

pytestmark = pytest.mark.slow


def test_an_archived_candidate_leaves_only_dagster(
    demo: Demo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Registry, evidence and audit are the same afterwards, and its next run adds it again."""
    place = demo.copy(tmp_path_factory.mktemp("candidates") / "home")
    shown = place.lynx("candidates", "list").stdout.splitlines()
    assert shown[0].split("  ")[0] == "candidate"
    assert [line.split()[0] for line in shown[1:]] == [demo.bad, demo.good]
    assert "regressed" in shown[1]
    assert "refused" in shown[1]
    evidence, registry = files_in(place.evidence(demo.good)), files_in(place.registry)
    done = place.lynx("candidates", "archive", demo.good)
    assert done.returncode == 0, done.stderr
    assert files_in(place.evidence(demo.good)) == evidence
    assert files_in(place.registry) == registry
    left = json.loads(place.lynx("candidates", "list", "--json").stdout)
    assert [it["key"] for it in left] == [demo.bad]
    assert place.lynx("audit", "v0.1.0-dev").returncode == 0
    again = place.lynx("candidates", "archive", demo.good)
    assert again.returncode == 2
    assert "not among Dagster's candidates" in again.stderr
    assert place.lynx("run", demo.good, "v0.1.0-dev").returncode == 0
    assert len(place.lynx("candidates", "list").stdout.splitlines()) == 3
