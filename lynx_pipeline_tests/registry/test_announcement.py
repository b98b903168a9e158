"""Announcements: their content, and that a failed one changes nothing in the registry."""

import json
from pathlib import Path

import pytest

from lynx_pipeline.adapters import notify
from lynx_pipeline.cli import main
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import SystemFailed
from lynx_pipeline.registry.announcement import announce, announcement
from lynx_pipeline_tests.support.builders import SHA, actor, evidence, project, promoted
from lynx_pipeline_tests.support.places import InFolder, promote
from lynx_pipeline_tests.support.receiver import Receiver, receiving


def entry() -> Entry[Promoted]:
    """A promotion in prod."""
    numbers = evidence(worst_margin=0.0125, worst_bucket="verb.go")
    who = actor(repository="octo-org/octo-repo", run_id="42")
    fact = promoted("v0.3.1", env=Env.PROD, evidence=numbers, actor=who)
    return Entry(1, None, "0" * 64, fact)


def test_an_announcement_contains_the_promotions_details(receiver: Receiver) -> None:
    """The message has the version, the sha, the worst margin and a link to the run."""
    assert announce(entry(), None) == 1
    (got,) = receiver.got
    assert got["title"] == "tiny: promoted v0.3.1 in prod"
    assert SHA in got["message"]
    assert "+1.25 points above its floor, in verb.go" in got["message"]
    assert "https://github.com/octo-org/octo-repo/actions/runs/42" in got["message"]


def test_an_announcement_mentions_missing_evidence() -> None:
    """A promotion by hand has no evidence."""
    title, body = announcement(Entry(1, None, "0" * 64, promoted("v0.1.0-dev")), None)
    assert title == "tiny: promoted v0.1.0-dev in dev"
    assert "without evidence" in body


def test_every_channel_is_tried(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing channel does not block the others, and the error shows no secret."""
    with receiving() as failing:
        failing.status = 503
        monkeypatch.setenv(notify.CHANNELS, f"{failing.url} nonsense {receiver.url}")
        with pytest.raises(
            SystemFailed, match=r"v0\.3\.1 is promoted, but not every channel got"
        ) as caught:
            announce(entry(), None)
    assert len(receiver.got) == 1
    assert "503" in str(caught.value)
    assert "channel-secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["nonsense", "json://", "mailto://", "://", "a" * 9999])
def test_an_invalid_channel_is_reported(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid channel URL is an error, and is not skipped."""
    monkeypatch.setenv(notify.CHANNELS, value)
    with pytest.raises(SystemFailed, match="contains an invalid channel URL"):
        announce(entry(), None)


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_channels_are_optional(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a channel, nothing is sent and nothing fails."""
    if value is not None:
        monkeypatch.setenv(notify.CHANNELS, value)
    assert announce(entry(), None) == 0


def test_the_command_announces_only_the_latest_promotion(
    tmp_path: Path,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The exit code is 3 if a channel failed. The registry never changes."""
    settings = project(tmp_path / "project")
    place = InFolder(settings.home / "registry")
    promote(place.store, 1)
    monkeypatch.chdir(settings.root)
    before = place.all()
    assert main(["announce", "v0.1.0-dev", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["channels"] == 1
    assert place.all() == before
    assert len(receiver.got) == 1
    assert main(["announce", "v0.2.0-dev"]) == 1
    promote(place.store, 2)
    capsys.readouterr()
    assert main(["announce", "v0.1.0-dev"]) == 1
    assert "v0.1.0-dev is not the latest version, v0.2.0-dev is." in capsys.readouterr().err
    assert len(receiver.got) == 1
    before = place.all()
    receiver.status = 500
    assert main(["announce", "latest"]) == 3
    assert "is promoted, but not every channel got the announcement" in capsys.readouterr().err
    monkeypatch.delenv(notify.CHANNELS)
    assert main(["announce", "latest"]) == 0
    assert "No notification sent: APPRISE_URLS names no channel." in capsys.readouterr().out
    assert place.all() == before
