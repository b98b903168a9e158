"""A reader remembers how far it has verified the registry."""

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from examples.miniserve.versions import Versions
from lynx_pipeline.adapters.ledgers.directory import SIGNATURES, DirectoryLedger
from lynx_pipeline.cli import main
from lynx_pipeline.domain.ledger import signatures
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import TIME, Actor
from lynx_pipeline.domain.ledger.state import replay
from lynx_pipeline.domain.ledger.statements import Envelope
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.registry import Registry, Resolved, Stale
from lynx_pipeline.registry.memory import Memory
from lynx_pipeline_tests.registry.prod.conftest import PYPROJECT, Prod, both_stores
from lynx_pipeline_tests.support.places import InFolder, OnGit
from lynx_pipeline_tests.support.signing import RELEASE, public_key, sign, signatures_table

OLD, NEW = "v0.1.0", "v0.2.0"


@pytest.fixture
def promoted(prod: Prod) -> Prod:
    """Two versions in prod."""
    prod.promote(prod.candidate("good"), OLD)
    prod.promote(prod.candidate("better"), NEW)
    assert latest(prod) == NEW
    return prod


def latest(prod: Prod) -> str:
    """What a server loads, if the registry can be verified."""
    return Registry.open(prod.prod).promoted().fact.semver


def answer(prod: Prod, version: str = "latest") -> Resolved:
    """What a server is told. It says so if it may be outdated."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        found = Registry.open(prod.prod).resolve(version)
    assert [it.category for it in shown] == ([Stale] if found.stale else [])
    return found


def memory(prod: Prod) -> Path:
    """The reader's memory."""
    (file,) = (prod.prod.home / "verified").glob("*.json")
    return file


@contextmanager
def wound_back(prod: Prod) -> Iterator[None]:
    """The registry as it was before the last promotion, in every detail."""
    if isinstance(prod.place, OnGit):
        place, refs = prod.place, prod.place.refs()
        place.git("update-ref", "refs/heads/lynx-registry", place.commits()[-2])
        place.git("tag", "-d", f"tiny@{NEW}")
        yield
        for name, target in refs.items():
            place.git("update-ref", name, target)
    else:
        assert isinstance(prod.place, InFolder)
        store = prod.place.store
        raw, checkpoint = store.file.read_bytes(), store.checkpoint_file.read_bytes()
        first = store.read().entries[0]
        store.file.write_bytes(first.to_line())
        store.checkpoint_file.unlink()
        yield
        store.file.write_bytes(raw)
        store.checkpoint_file.write_bytes(checkpoint)


@both_stores
def test_a_registry_that_was_wound_back_is_refused(promoted: Prod) -> None:
    """By a reader that has seen the newer state. A new reader can't know it."""
    assert latest(promoted) == NEW
    with wound_back(promoted):
        for _ in range(2):
            with pytest.raises(BadInput, match="entry 2 is not the one with the hash"):
                latest(promoted)
            assert answer(promoted).semver == NEW
        with pytest.raises(BadInput, match="was wound back, or replaced"):
            promoted.promote(promoted.candidate("third"), "v0.3.0")
        kept = memory(promoted).read_bytes()
        memory(promoted).unlink()
        assert latest(promoted) == OLD
        memory(promoted).write_bytes(kept)
    assert latest(promoted) == NEW


def test_another_ledger_of_the_same_length_is_refused(promoted: Prod) -> None:
    """Two readers are shown two ledgers: each keeps to what it has seen."""
    assert latest(promoted) == NEW
    with wound_back(promoted):
        seen = memory(promoted).read_bytes()
        memory(promoted).unlink()
        promoted.promote(promoted.candidate("fork"), NEW)
        assert latest(promoted) == NEW
        memory(promoted).write_bytes(seen)
        with pytest.raises(BadInput, match="entry 2 is not the one with the hash"):
            latest(promoted)
    assert latest(promoted) == NEW


@both_stores
def test_an_unchanged_registry_is_answered_without_verifying_it(
    promoted: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was read but what shows that it is unchanged. Any change is verified."""
    expected = answer(promoted)
    old = answer(promoted, OLD)
    store = type(promoted.store)
    with monkeypatch.context() as patch:
        patch.setattr(store, "read", None)  # would fail
        assert answer(promoted) == answer(promoted, NEW) == expected
        with pytest.raises(TypeError):
            answer(promoted, OLD)  # not the one that is remembered
    assert answer(promoted, OLD) == old
    with wound_back(promoted), pytest.raises(BadInput, match="wound back"):
        latest(promoted)
    promoted.rollback(OLD)
    assert answer(promoted).semver == OLD


@pytest.mark.parametrize("name", ["index.jsonl", "index.checkpoint.json", SIGNATURES])
def test_every_change_of_an_unchanged_registry_matters(promoted: Prod, name: str) -> None:
    """Each file that is read is compared. Setting its time back hides nothing, and putting back
    what was there is a change too."""
    state = promoted.store.state()
    assert state == promoted.store.read().state
    file = promoted.root / "registry" / name
    raw, at = file.read_bytes(), file.stat()
    for place in (0, len(raw) // 2, len(raw) - 1):
        file.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        os.utime(file, ns=(at.st_atime_ns, at.st_mtime_ns))
        assert promoted.store.state() != state
    file.unlink()
    assert promoted.store.state() != state
    file.write_bytes(raw)
    assert promoted.store.state() != state
    assert promoted.store.state() == promoted.store.read().state


@pytest.mark.parametrize("name", ["index.jsonl", "index.checkpoint.json", SIGNATURES])
def test_a_registry_that_changes_while_it_is_read_is_verified_again(
    promoted: Prod, name: str
) -> None:
    """What is remembered never names a state that is newer than what was read."""
    memory(promoted).unlink()
    inode = (promoted.root / "registry" / name).stat().st_ino
    with pytest.MonkeyPatch.context() as patch:

        def fstat(handle: int) -> os.stat_result:
            at = real(handle)
            if at.st_ino == inode:
                patch.undo()
                promoted.rollback(OLD)
            return at

        real = os.fstat
        patch.setattr(os, "fstat", fstat)
        answer(promoted)
    assert answer(promoted).semver == OLD
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(promoted.store), "read", None)  # would fail
    assert answer(promoted).semver == OLD


def test_a_memory_from_before_states_were_remembered_is_read(promoted: Prod) -> None:
    """The registry is verified once more."""
    expected = answer(promoted)
    values = json.loads(memory(promoted).read_bytes())
    memory(promoted).write_text(json.dumps({k: v for k, v in values.items() if k != "state"}))
    assert answer(promoted) == expected
    assert json.loads(memory(promoted).read_bytes())["state"] == values["state"]


def test_signatures_are_verified_once(promoted: Prod, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the settings change."""
    checked = []
    real = signatures.is_signed

    def is_signed(envelope: Envelope, key: Any) -> bool:
        checked.append(envelope)
        return real(envelope, key)

    memory(promoted).unlink()
    monkeypatch.setattr(signatures, "is_signed", is_signed)
    for expected in (2, 0, 0):
        checked.clear()
        assert latest(promoted) == NEW
        assert len(checked) == expected
    file = promoted.root / "registry" / SIGNATURES
    raw = file.read_bytes()
    file.write_bytes(b"")  # what was verified stays verified
    assert latest(promoted) == NEW
    promoted.edit(PYPROJECT, public_key(), public_key("other"))
    with pytest.raises(BadInput, match="the entry counted before, and its signature is gone"):
        latest(promoted)
    file.write_bytes(raw)
    with pytest.raises(Refused, match="nothing was promoted"):
        latest(promoted)
    both = signatures_table("other", RELEASE)
    promoted.edit(PYPROJECT, signatures_table("other"), both)
    checked.clear()
    assert latest(promoted) == NEW
    assert len(checked) == 4


def test_an_entry_counts_as_soon_as_its_signature_is_there(promoted: Prod) -> None:
    """An administrator may restore it."""
    file = promoted.root / "registry" / SIGNATURES
    raw = file.read_bytes()
    memory(promoted).unlink()
    file.write_bytes(raw.splitlines(keepends=True)[1])
    assert latest(promoted) == NEW
    assert len(json.loads(memory(promoted).read_bytes())["unsigned"]) == 1
    registry = Registry.open(promoted.prod)
    with pytest.raises(Refused, match="was never promoted"):
        registry.promoted(OLD)
    file.write_bytes(raw)
    assert registry.promoted(OLD).fact.semver == OLD
    assert json.loads(memory(promoted).read_bytes())["unsigned"] == []


def forge(prod: Prod, semver: str) -> Entry:
    """Append an entry without a signature."""
    genuine = Registry.open(prod.prod).promoted().fact
    assert isinstance(genuine.actor, Actor)
    claims = replace(genuine.actor, jti=f"unused {semver}")
    return prod.store.append(lambda _: replace(genuine, semver=semver, actor=claims)).entry


def test_a_retired_key_makes_no_old_entry_count(promoted: Prod) -> None:
    """Its thief signs an entry that was ignored when it was in use."""
    forged = forge(promoted, "v0.9.0")
    last = promoted.rollback(OLD)
    assert latest(promoted) == OLD
    table = signatures_table("new", retired={RELEASE: last.hash})
    promoted.edit(PYPROJECT, signatures_table(RELEASE), table)
    with (promoted.root / "registry" / SIGNATURES).open("ab") as file:
        file.write(sign(forged))
    assert latest(promoted) == OLD
    registry = Registry.open(promoted.prod)
    assert (
        "was not when this reader saw it first" in registry.unsigned(registry.verify())[forged.hash]
    )


def test_an_entry_that_does_not_count_may_go(promoted: Prod) -> None:
    """An administrator removes what somebody pushed; readers that saw it go on."""
    store = promoted.place.store
    assert isinstance(store, DirectoryLedger)
    files = (store.file, store.checkpoint_file)
    before = [file.read_bytes() for file in files]
    forge(promoted, "v0.9.0")
    assert latest(promoted) == NEW
    for file, raw in zip(files, before, strict=True):
        file.write_bytes(raw)
    assert latest(promoted) == NEW
    promoted.promote(promoted.candidate("third"), "v0.3.0")
    assert latest(promoted) == "v0.3.0"


def test_a_newer_state_that_another_process_verified_is_no_alarm(promoted: Prod) -> None:
    """And is not overwritten by an older one."""
    slow = Registry.open(promoted.prod)
    ledger = slow.verify()
    promoted.promote(promoted.candidate("third"), "v0.3.0")
    assert latest(promoted) == "v0.3.0"
    kept = memory(promoted).read_bytes()
    assert slow.unsigned(ledger) == {}
    state = replay(ledger, Env.PROD, "tiny", {})
    Memory(promoted.prod).keep(ledger, {}, state)
    assert memory(promoted).read_bytes() == kept


def damage(prod: Prod) -> None:
    """Append a line that is no entry."""
    with (prod.root / "registry" / "index.jsonl").open("ab") as file:
        file.write(b"{}\n")


def test_a_damaged_registry_stops_no_server(
    promoted: Prod, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a day it gets what was verified before, and is told so. Nothing else goes on."""
    before = answer(promoted)
    assert before.stale is None
    damage(promoted)
    found = answer(promoted)
    assert replace(found, stale=None) == before
    assert found.stale is not None
    assert "can't be verified now: " in found.stale
    assert "line 3" in found.stale
    assert answer(promoted, NEW) == found
    with pytest.raises(BadInput, match="line 3"):
        Registry.open(promoted.prod).resolve(OLD)
    # A service that remembers what it served takes its own word for it, and reports the damage.
    with pytest.raises(BadInput, match="can't be verified now: "), warnings.catch_warnings():
        warnings.simplefilter("ignore", Stale)
        Versions(promoted.prod).latest()
    for read in (Registry.open(promoted.prod).verify, lambda: latest(promoted)):
        with pytest.raises(BadInput, match="line 3"):
            read()
    with chdir(promoted.root), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LYNX_ENV", "prod")
        patch.setenv("MLFLOW_TRACKING_URI", promoted.tracking.uri)
        capsys.readouterr()
        assert main(["registry", "resolve", "--json"]) == 0
        shown = capsys.readouterr()
        assert json.loads(shown.out)["stale"] == found.stale
        assert f"{NEW} may be outdated: it was verified last at" in shown.err
        assert main(["registry", "fetch", "--to", str(tmp_path / "fetched"), "--json"]) == 0
        shown = capsys.readouterr()
        assert json.loads(shown.out)["stale"] == found.stale
        assert "may be outdated" in shown.err
        assert main(["registry", "verify"]) == 2


@pytest.mark.parametrize("hours", [23, 25])
def test_an_old_memory_is_not_answered(promoted: Prod, hours: int) -> None:
    """The settings say how old it may be."""
    damage(promoted)
    values = json.loads(memory(promoted).read_bytes())
    verified = datetime.now(UTC) - timedelta(hours=hours)
    memory(promoted).write_text(json.dumps({**values, "time": verified.strftime(TIME)}))
    if hours < 24:
        assert answer(promoted).stale is not None
        promoted.edit(PYPROJECT, 'model = "tiny"', 'model = "tiny"\nstale_hours = 0')
    with pytest.raises(BadInput, match="line 3"):
        answer(promoted)


def test_other_keys_make_the_memory_worthless(promoted: Prod) -> None:
    """What they would say is unknown."""
    damage(promoted)
    assert answer(promoted).stale is not None
    promoted.edit(PYPROJECT, public_key(), public_key("other"))
    with pytest.raises(BadInput, match="line 3"):
        answer(promoted)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"seq": 1}', b"\0", b'{"seq":0,"hash":"a"}'])
def test_a_damaged_memory_is_an_error(promoted: Prod, content: bytes) -> None:
    """It might have known better."""
    memory(promoted).write_bytes(content)
    for read in (latest, answer):
        with pytest.raises(BadInput, match="If you know that the registry is right, delete"):
            read(promoted)


def test_a_reader_that_can_not_write_remembers_nothing(promoted: Prod) -> None:
    """It reads all the same, as in a container whose folders are read-only."""
    memory(promoted).unlink()
    folder = promoted.prod.home / "verified"
    shutil.rmtree(folder)
    folder.write_text("in the way")
    assert latest(promoted) == NEW


def test_dev_remembers_nothing(promoted: Prod) -> None:
    """A registry for trials may be deleted at any time."""
    memory(promoted).unlink()
    with pytest.raises(Refused, match="nothing was promoted in dev"):
        Registry.open(promoted.settings).resolve()
    assert [*(promoted.settings.home / "verified").glob("*.json")] == []
