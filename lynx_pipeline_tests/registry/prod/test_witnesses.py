"""Attacks on readers by somebody who can push anything to the registry, also with force, but has no
witness's key: with and without witnesses."""

import json
import os
import shutil
import time
from contextlib import chdir
from dataclasses import replace

import pytest

from lynx_pipeline.cli import main
from lynx_pipeline.config import load_settings
from lynx_pipeline.domain.ledger.tree_head import tree_head
from lynx_pipeline.domain.release.witnesses import WitnessPolicy
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.registry import Registry, Stale
from lynx_pipeline_tests.registry.prod.conftest import PYPROJECT, Prod, both_stores
from lynx_pipeline_tests.registry.prod.witnessing import (
    HOUR,
    NEW,
    OLD,
    W1,
    W2,
    W3,
    checkpoints,
    ledger,
    machine,
    publish,
    read,
    refused,
    settings_of,
    show,
    sign,
    signed_ago,
    take,
)
from lynx_pipeline_tests.support.places import InFolder
from lynx_pipeline_tests.support.signing import cosign, witnesses_table

# ----- the attacks ------------------------------------------------------------------------------

CONTRADICTS = r"does not extend the first 2 that the witness w1 signed"


@both_stores
def test_a_rollback_is_seen_only_with_witnesses(promoted: Prod) -> None:
    """Somebody winds the ledger back with all that belongs to it, and leaves the checkpoints, or
    removes them."""
    assert sign(promoted, W1, "--first") == 0
    before = take(promoted)
    promoted.promote(promoted.candidate("better"), NEW)
    assert read(promoted, W1) == NEW  # a witness that is late is no problem
    assert sign(promoted) == 0
    after = take(promoted)
    assert read(promoted, W1) == NEW

    show(promoted, ledger(before) | checkpoints(after))
    assert read(promoted) == OLD
    refused(promoted, CONTRADICTS, W1)
    show(promoted, ledger(before))
    assert read(promoted) == OLD
    refused(promoted, "w1: it has published no checkpoint here", W1)
    show(promoted, checkpoints(after))
    refused(promoted, r"the ledger has 0 entries, and does not extend", W1)
    show(promoted, after)
    assert read(promoted, W1) == NEW


@both_stores
def test_a_freeze_is_seen_only_with_witnesses_and_after_their_time(promoted: Prod) -> None:
    """Somebody shows the same old state for ever, with the old checkpoints."""
    for hours in (1, 47, 49, 10_000):
        publish(promoted, W1, signed_ago(promoted, W1, hours))
        assert read(promoted) == OLD
        if hours < 48:
            assert read(promoted, W1) == OLD
        else:
            refused(promoted, "w1: its checkpoint is of .*, more than 48 hours ago", W1)
    assert read(promoted, W1, hours=20_000) == OLD


@both_stores
def test_a_fork_is_seen_by_the_reader_that_is_shown_the_other_ledger(promoted: Prod) -> None:
    """Two ledgers whose entries are all signed with a trusted key. The witness has seen one."""
    assert sign(promoted, W1, "--first") == 0
    before = take(promoted)
    promoted.promote(promoted.candidate("better"), NEW)
    assert sign(promoted) == 0
    main_ledger = take(promoted)
    show(promoted, before)
    promoted.promote(promoted.candidate("fork"), NEW)
    fork = take(promoted)

    show(promoted, main_ledger)
    assert read(promoted, W1) == NEW
    for content, message in (
        (ledger(fork) | checkpoints(main_ledger), CONTRADICTS),
        (ledger(fork), "it has published no checkpoint here"),
    ):
        show(promoted, content)
        assert read(promoted) == NEW
        refused(promoted, message, W1)
    # With what the witness signed before the fork, it is noticed when that gets old.
    show(promoted, fork)
    assert read(promoted, W1) == NEW
    found = promoted.store.read()
    old = cosign(tree_head(found, "tiny", 1), W1, time.time() - 49 * HOUR)
    publish(promoted, W1, old)
    refused(promoted, "more than 48 hours ago", W1)


@both_stores
def test_a_replayed_checkpoint_counts_as_old_as_it_is(promoted: Prod) -> None:
    """It says nothing of the entries since. With the ledger of that time, it is a freeze."""
    replayed = signed_ago(promoted, W1, 3)
    old = take(promoted)
    promoted.promote(promoted.candidate("better"), NEW)
    assert sign(promoted, W1, "--first") == 0
    publish(promoted, W1, replayed)
    assert read(promoted, W1) == NEW
    refused(promoted, "more than 2 hours ago", W1, hours=2)
    show(promoted, old)
    publish(promoted, W1, replayed)
    assert read(promoted, W1) == OLD
    refused(promoted, "more than 2 hours ago", W1, hours=2)


@both_stores
def test_what_somebody_else_puts_in_the_place_of_a_checkpoint_is_ignored(promoted: Prod) -> None:
    """Readers then have too few checkpoints. Without witnesses, they don't look."""
    assert sign(promoted, W1, "--first") == 0
    assert sign(promoted, W2, "--first") == 0
    for raw, message in (
        (b"garbage\n", "something else is in the place of its checkpoint"),
        (b"\xff\0\n", "something else is in the place of its checkpoint"),
        (signed_ago(promoted, W2, 0), "w1 has not signed it"),
        (signed_ago(promoted, W2, 0).replace(b"w2", b"w1"), "w1 has not signed it"),
        (signed_ago(promoted, W1, 0, "other"), "its checkpoint is of 'lynx-pipeline/other'"),
        (signed_ago(promoted, W1, -1), "in the future: a clock is wrong"),
    ):
        publish(promoted, W1, raw)
        refused(promoted, message, W1)
        refused(promoted, "only 1 of 2 witnesses have a recent checkpoint", W1, W2, required=2)
        assert read(promoted) == read(promoted, W1, W2) == read(promoted, W2) == OLD
    assert sign(promoted) == 0
    assert read(promoted, W1, W2, required=2) == OLD


@both_stores
def test_as_many_witnesses_count_as_are_required(promoted: Prod) -> None:
    """Two of three. One that contradicts is an alarm, whatever the others say."""
    assert sign(promoted, W1, "--first") == 0
    names = (W1, W2, W3)
    refused(promoted, "w2: it has .* w3: it has published no checkpoint", *names, required=2)
    assert sign(promoted, W3, "--first") == 0
    assert read(promoted, *names, required=2) == OLD
    before = take(promoted)
    promoted.promote(promoted.candidate("better"), NEW)
    assert sign(promoted, W1) == 0
    show(promoted, ledger(before) | checkpoints(take(promoted)))
    refused(promoted, CONTRADICTS, *names, required=2)


def test_a_checkpoint_of_another_ledger_of_the_same_model_is_a_contradiction(
    promoted: Prod,
) -> None:
    """A witness's key is for one registry."""
    found = promoted.store.read()
    other = cosign(tree_head(found, "tiny", 1), W1, time.time())
    promoted.place.overwrite(b"")
    assert isinstance(promoted.place, InFolder)
    promoted.place.store.checkpoint_file.unlink()
    promoted.promote(promoted.candidate("elsewhere"), OLD)
    publish(promoted, W1, other)
    refused(promoted, "does not extend the first 1 that the witness w1 signed", W1)


# ----- readers that remember, and writers ---------------------------------------------------------


def test_a_reader_goes_on_for_a_day_and_not_longer(promoted: Prod) -> None:
    """With what it verified last, and a warning: as while the registry is damaged. Neither a freeze
    nor a contradiction makes that day longer."""
    publish(promoted, W1, signed_ago(promoted, W1, 1))
    folder = machine(promoted, "server", witnesses_table(W1, required=1))
    settings = settings_of(folder)
    assert Registry.open(settings).resolve().stale is None
    (memory,) = (settings.home / "verified").glob("*.json")
    fresh = memory.read_bytes()
    publish(promoted, W1, signed_ago(promoted, W1, 49))
    for _ in range(2):
        with pytest.warns(Stale, match="may be outdated"):
            assert "more than 48 hours ago" in str(Registry.open(settings).resolve().stale)
        assert memory.read_bytes() == fresh
    values = json.loads(fresh)
    memory.write_text(json.dumps({**values, "time": "2026-01-01T00:00:00Z"}))
    with pytest.raises(BadInput, match="more than 48 hours ago"):
        Registry.open(settings).resolve()


def test_what_was_verified_with_other_witnesses_is_no_answer(promoted: Prod) -> None:
    """Also if there were none."""
    folder = machine(promoted, "server")
    assert Registry.open(settings_of(folder)).resolve().semver == OLD
    machine(promoted, "server", witnesses_table(W1, required=1))
    with pytest.raises(BadInput, match="it has published no checkpoint here"):
        Registry.open(settings_of(folder)).resolve()


def test_a_writer_waits_for_no_witness_and_builds_on_no_contradiction(promoted: Prod) -> None:
    """The settings are gate inputs: in prod they must be the committed ones."""
    text = (promoted.root / PYPROJECT).read_text()
    promoted.write(PYPROJECT, text + witnesses_table(W1, required=1))
    promoted.commit()
    promoted.issue_tokens_for_head()
    promoted.promote(promoted.candidate("better"), NEW)
    promoted.rollback(OLD)
    assert not (promoted.prod.home / "verified").exists()  # no reader would be told that
    assert sign(promoted, W1, "--first") == 0
    promoted.rollback(NEW)
    signed = take(promoted)
    promoted.promote(promoted.candidate("third"), "v0.3.0")
    assert sign(promoted) == 0
    show(promoted, ledger(signed) | checkpoints(take(promoted)))
    before = take(promoted)
    for write in (
        lambda: promoted.promote(promoted.candidate("fourth"), "v0.4.0"),
        lambda: promoted.rollback(OLD),
        lambda: Registry.open(promoted.prod).unsigned(promoted.store.read()),
    ):
        with pytest.raises(BadInput, match="does not extend the first 5 that the witness w1"):
            write()
    assert take(promoted) == before
    fifth = promoted.candidate("fifth")
    with pytest.raises(Refused, match="'witnesses' differs from the commit"):
        Registry.open(replace(promoted.prod, witnesses=WitnessPolicy())).promote(
            fifth.sha, "v0.5.0", evidence=fifth.evidence
        )


def test_dev_has_no_witnesses(promoted: Prod) -> None:
    """Its entries are not even signed."""
    text = (promoted.root / PYPROJECT).read_text()
    promoted.write(PYPROJECT, text + witnesses_table(W1, required=1))
    settings = load_settings(promoted.root, {})
    assert Registry.open(settings).unsigned(promoted.store.read()) == {}
    assert Registry.open(settings).promotions() == ()


def test_verify_names_the_witnesses_that_do_not_count(
    promoted: Prod, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And fails if one does not. If there are too few, it ends as reading does."""
    assert sign(promoted, W1, "--first") == 0
    monkeypatch.setenv("LYNX_ENV", "prod")
    for required, code, message in (
        (1, 1, "the witness w2 does not count: it has published no checkpoint here."),
        (2, 2, "only 1 of 2 witnesses have a recent checkpoint here"),
    ):
        capsys.readouterr()
        with chdir(machine(promoted, "monitor", witnesses_table(W1, W2, required=required))):
            assert main(["registry", "verify"]) == code
        assert message in capsys.readouterr().err
    assert sign(promoted, W2, "--first") == 0
    with chdir(promoted.folder / "monitor"):
        assert main(["registry", "verify"]) == 0


@pytest.mark.parametrize("prod", [pytest.param("git", marks=pytest.mark.slow)], indirect=True)
def test_readers_without_witnesses_run_no_more_git(
    promoted: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with witnesses one more, which reads what was fetched with the ledger."""
    assert sign(promoted, W1, "--first") == 0
    log = promoted.folder / "git.log"
    wrapper = promoted.folder / "bin/git"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "$@" >>"{log}"\nexec {shutil.which("git")} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")

    def counts() -> int:
        return len(log.read_text().splitlines())

    assert read(promoted) == OLD
    without = counts()
    assert "lynx-witness" not in log.read_text()
    log.unlink()
    assert read(promoted, W1) == OLD
    assert counts() == without + 1
