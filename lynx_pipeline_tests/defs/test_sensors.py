"""The sensor that tells people of promotions, evaluated as the daemon does."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetMaterialization,
    DagsterInstance,
    OpExecutionContext,
    Out,
    Output,
    build_run_status_sensor_context,
    job,
    op,
)

from lynx_pipeline.adapters import notify
from lynx_pipeline.defs.sensors import announce_promotions
from lynx_pipeline.domain.ledger import PROMOTED, TIME
from lynx_pipeline_tests.builders import fact, project
from lynx_pipeline_tests.places import InFolder
from lynx_pipeline_tests.receiver import Receiver, receiving

V = "v0.1.0-dev"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InFolder:
    """The registry of the project that this process runs in."""
    settings = project(tmp_path / "project")
    monkeypatch.chdir(settings.root)
    return InFolder(settings.home / "registry")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """The one configured channel."""
    with receiving() as it:
        monkeypatch.setenv(notify.CHANNELS, it.url)
        yield it


def promote(place: InFolder, when: datetime) -> None:
    """Add the promotion."""
    made = fact(event=PROMOTED, semver=V, time=when.strftime(TIME))
    place.store.append(lambda _: made)


def tick(place: InFolder, *, makes: bool = True, finds: bool = False) -> Any:
    """The sensor's look at a run that ``makes`` the promotion, or ``finds`` it made before."""
    if finds:
        promote(place, datetime.now(UTC) - timedelta(minutes=1))

    @op(out=Out(is_required=False))
    def decide(context: OpExecutionContext) -> Iterator[Output[None]]:
        if makes:
            promote(place, datetime.now(UTC))
        if makes or finds:
            context.log_event(AssetMaterialization("promotion_decision", metadata={"semver": V}))
        yield from ()

    @job
    def promotes() -> None:
        decide()

    with DagsterInstance.ephemeral() as instance:
        done = promotes.execute_in_process(instance=instance)
        context = build_run_status_sensor_context(
            sensor_name="announce_promotions",
            dagster_event=done.get_run_success_event(),
            dagster_instance=instance,
            dagster_run=done.dagster_run,
        )
        return announce_promotions(context)


def test_a_promotion_is_announced(place: InFolder, receiver: Receiver) -> None:
    """Once, with its version."""
    assert tick(place) is None
    assert [got["title"] for got in receiver.got] == [f"tiny: promoted {V} in dev"]


def test_a_promotion_that_was_there_is_not_announced_again(
    place: InFolder, receiver: Receiver
) -> None:
    """A run that is repeated changes nothing and tells nothing."""
    assert "promoted nothing" in tick(place, makes=False).skip_message
    assert "promoted nothing" in tick(place, makes=False, finds=True).skip_message
    assert receiver.got == []


def test_without_a_channel_it_skips(place: InFolder) -> None:
    """And says why."""
    assert "APPRISE_URLS names no channel" in tick(place).skip_message


def test_a_channel_that_was_not_told_fails_the_tick_only(
    place: InFolder, receiver: Receiver
) -> None:
    """The promotion stands."""
    receiver.status = 500
    with pytest.raises(Exception, match="is promoted, and 1 channels were not told"):
        tick(place)
    assert len(place.store.read().entries) == 1
