"""The list of candidates, and archiving them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from time import time

import pytest
from dagster import (
    AssetMaterialization,
    DagsterInstance,
    DagsterRunStatus,
    DefaultScheduleStatus,
)
from dagster._core.test_utils import create_run_for_test

from lynx_pipeline.config import load_settings
from lynx_pipeline.definitions import defs
from lynx_pipeline.defs.candidates import archive, candidates, overdue
from lynx_pipeline.defs.gate import CANDIDATE_BUNDLE, PROJECT, Gate
from lynx_pipeline.defs.known import Known, recall
from lynx_pipeline.errors import BadInput, Refused

DAYS = 90
ENDED = DagsterRunStatus.FAILURE


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    """An instance without candidates."""
    with DagsterInstance.ephemeral() as it:
        yield it


def add(
    instance: DagsterInstance,
    key: str,
    *outcomes: str | None,
    status: DagsterRunStatus = ENDED,
    **tags: str,
) -> None:
    """Add a candidate with one run for each of ``outcomes``, oldest first; None: without one."""
    instance.add_dynamic_partitions("candidates", [key])
    for outcome in outcomes:
        named = {f"lynx.{name}": value for name, value in tags.items()}
        ended = {"lynx.outcome": outcome} if outcome else {}
        all_tags = {"dagster/partition": key, **named, **ended}
        create_run_for_test(instance, job_name="evaluate", tags=all_tags, status=status)


def keys(instance: DagsterInstance) -> list[str]:
    """The candidates that Dagster has."""
    return list(instance.get_dynamic_partitions("candidates"))


def test_a_candidate_is_listed_with_its_last_outcome(instance: DagsterInstance) -> None:
    """And with what its runs say about it. A candidate without a run is last."""
    add(instance, "never")
    add(instance, "a", "refused", "promoted", run_name="shy-fox", author="anna", semver="v1.0.0")
    add(instance, "b", None, status=DagsterRunStatus.STARTED)
    b, a, never = candidates(PROJECT, instance)
    assert (a.key, a.run_name, a.author, a.semver) == ("a", "shy-fox", "anna", "v1.0.0")
    assert (a.outcome, a.active, a.dealt_with) == ("promoted", False, True)
    assert (b.key, b.outcome, b.active, b.dealt_with) == ("b", "started", True, False)
    assert (never.key, never.outcome, never.time, never.dealt_with) == ("never", "", None, False)


def test_many_candidates_are_listed(instance: DagsterInstance) -> None:
    """Storage is asked for a bounded number at once."""
    instance.add_dynamic_partitions("candidates", [f"c{number}" for number in range(1201)])
    assert len(candidates(PROJECT, instance)) == 1201


def test_what_was_recorded_about_a_candidate_is_recalled(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it can't be read, it is unknown, and nothing fails."""
    known = Known("shy-fox", "anna")
    made = AssetMaterialization(
        PROJECT.key(CANDIDATE_BUNDLE), partition="a", metadata=dict(known.metadata)
    )
    instance.report_runless_asset_event(made)
    assert recall(PROJECT, instance, "a") == known
    assert recall(PROJECT, instance, "b") == Known()

    def fails(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(instance, "fetch_materializations", fails)
    assert recall(PROJECT, instance, "a") == Known()


def test_archiving_removes_only_the_named_candidates(instance: DagsterInstance) -> None:
    """Whatever their outcome: a mistyped run id is nothing to wait for. The runs stay."""
    for key, outcome in (("a", "mistyped"), ("b", "promoted"), ("c", "refused")):
        add(instance, key, outcome)
    archive(PROJECT, instance, ["a", "b"])
    assert keys(instance) == ["c"]
    assert instance.get_runs_count() == 3


def test_archiving_is_all_or_nothing(instance: DagsterInstance) -> None:
    """An unknown candidate, and one with a run that has not ended, are refused."""
    add(instance, "a", "promoted")
    add(instance, "busy", None, status=DagsterRunStatus.STARTED)
    with pytest.raises(BadInput, match="not among Dagster's candidates: 'b'"):
        archive(PROJECT, instance, ["a", "b"])
    with pytest.raises(Refused, match="a run has not ended yet, of candidate busy"):
        archive(PROJECT, instance, ["a", "busy"])
    assert keys(instance) == ["a", "busy"]


def test_only_candidates_that_were_dealt_with_are_overdue(instance: DagsterInstance) -> None:
    """Refused or promoted, by any run, and none since."""
    for key in ("promoted", "refused", "evaluated", "mistyped", "broken"):
        add(instance, key, key)
    add(instance, "promoted before", "promoted", "evaluated")
    add(instance, "never")
    add(instance, "active", "refused", None, status=DagsterRunStatus.STARTED)
    now = datetime.now(UTC)
    assert overdue(PROJECT, instance, DAYS, now + timedelta(days=DAYS - 1)) == []
    found = {it.key for it in overdue(PROJECT, instance, DAYS, now + timedelta(days=DAYS + 1))}
    assert found == {"promoted", "refused", "promoted before"}


def test_the_job_archives_what_is_overdue(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its schedule is off until somebody switches it on."""
    add(instance, "a", "refused")
    add(instance, "b", "evaluated")
    archive_candidates = defs.resolve_job_def("archive_candidates")
    assert archive_candidates.execute_in_process(instance=instance).success
    assert keys(instance) == ["a", "b"]  # not old enough
    assert load_settings().archive_after_days == DAYS

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Later":
            return cls.fromtimestamp(time() + (DAYS + 1) * 86_400, tz)

    monkeypatch.setattr("lynx_pipeline.defs.candidates.datetime", Later)
    assert archive_candidates.execute_in_process(instance=instance).success
    assert keys(instance) == ["b"]
    schedule = defs.resolve_schedule_def("archive_daily")
    assert schedule.default_status is DefaultScheduleStatus.STOPPED


def test_a_named_gate_lists_only_its_own_runs(instance: DagsterInstance) -> None:
    """Another gate may have the same candidate, and other jobs a partition of the same name."""
    tutor = Gate(load_settings, "tutor")
    add(instance, "a", "refused", "promoted")  # of the gate without a name
    instance.add_dynamic_partitions("tutor_candidates", ["a"])
    (listed,) = candidates(tutor, instance)
    assert (listed.outcome, listed.dealt_with) == ("", False)
    tags = {"dagster/partition": "a", "lynx.outcome": "evaluated"}
    create_run_for_test(instance, job_name="tutor_evaluate", tags=tags, status=ENDED)
    assert [it.outcome for it in candidates(tutor, instance)] == ["evaluated"]
    chosen = frozenset({tutor.key(CANDIDATE_BUNDLE)})
    tags = {"dagster/partition": "a", "lynx.outcome": "mistyped"}
    create_run_for_test(
        instance, job_name="__ASSET_JOB", tags=tags, status=ENDED, asset_selection=chosen
    )
    assert [it.outcome for it in candidates(tutor, instance)] == ["mistyped"]
    archive(tutor, instance, ["a"])
    assert keys(instance) == ["a"]
