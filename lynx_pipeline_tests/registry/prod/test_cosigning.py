"""A witness: what it signs and publishes, and what it refuses to sign."""

import base64
import json
import os
import shutil
import signal
import stat
import sys
import time
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest

from lynx_pipeline.adapters.witness_key import VARIABLE
from lynx_pipeline.cli import main
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.domain.ledger.tree_head import read_note, tree_head
from lynx_pipeline.errors import GATE_MODULES
from lynx_pipeline_tests.registry.prod.conftest import PYPROJECT, Prod, both_stores
from lynx_pipeline_tests.registry.prod.witnessing import (
    NEW,
    OLD,
    W1,
    W2,
    checkpoints,
    environment,
    ledger,
    machine,
    read,
    show,
    sign,
    take,
)
from lynx_pipeline_tests.support.commands import Done, run
from lynx_pipeline_tests.support.places import OnGit
from lynx_pipeline_tests.support.signing import private_pem, witness_key, witnesses_table

# ----- the witness --------------------------------------------------------------------------------


@both_stores
def test_a_witness_signs_no_ledger_that_does_not_extend_what_it_signed(
    promoted: Prod, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not a fork, not a shorter one, not an empty one: also if its checkpoint is gone. It changes
    nothing, and goes on when the registry is restored."""
    assert sign(promoted, W1, "--first") == 0
    before = take(promoted)
    promoted.promote(promoted.candidate("better"), NEW)
    assert sign(promoted) == 0
    after = take(promoted)
    show(promoted, before)
    promoted.promote(promoted.candidate("fork"), NEW)
    fork = take(promoted)
    (memory,) = (promoted.folder / "witness w1/.lynx/witness").glob("*.checkpoint")
    remembered = memory.read_bytes()
    for content in (
        ledger(before),
        ledger(before) | checkpoints(after),
        before,
        ledger(fork),
        ledger(fork) | checkpoints(after),
        fork,
        {name: raw for name, raw in after.items() if "evidence" in name},
    ):
        show(promoted, content)
        capsys.readouterr()
        assert sign(promoted) == 2
        assert "does not extend the first 2 entries, which this witness" in capsys.readouterr().err
        assert take(promoted) == content
        assert memory.read_bytes() == remembered
    show(promoted, after)
    assert sign(promoted) == 0


@both_stores
def test_a_witness_that_lost_its_memory_signs_nothing(
    promoted: Prod, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless it is told that this is the first time; then it still signs nothing that contradicts
    what it has published."""
    assert sign(promoted) == 2
    assert "If it signs with this key for the first time, add --first" in capsys.readouterr().err
    assert checkpoints(take(promoted)) == {}
    assert sign(promoted, W1, "--first") == 0
    before = take(promoted)
    assert sign(promoted, W1, "--first") == 2
    assert "has signed before. Leave out --first" in capsys.readouterr().err
    promoted.promote(promoted.candidate("better"), NEW)
    assert sign(promoted) == 0
    (memory,) = (promoted.folder / "witness w1/.lynx/witness").glob("*.checkpoint")
    for raw in (b"", b"garbage", b"\xff"):
        memory.write_bytes(raw)
        assert sign(promoted) == 2
        assert "expected the checkpoint that this witness signed last" in capsys.readouterr().err
    shutil.rmtree(promoted.folder / "witness w1/.lynx")
    assert sign(promoted) == 2
    show(promoted, ledger(before) | checkpoints(take(promoted)))
    assert sign(promoted, W1, "--first") == 2
    assert "that the witness w1 signed at" in capsys.readouterr().err


@both_stores
def test_what_a_witness_publishes_can_be_read_by_others(
    promoted: Prod, capsys: pytest.CaptureFixture[str]
) -> None:
    """One file, or one commit whose message it is. It is replaced each time. Entries that don't
    count are not signed: an administrator may remove them."""
    assert sign(promoted, W1, "--first") == 0
    first = promoted.store.read().entries[0].fact
    assert isinstance(first, Promoted)
    promoted.store.append(lambda _: replace(first, semver=NEW))
    capsys.readouterr()
    assert sign(promoted, W1, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    if isinstance(promoted.place, OnGit):
        ref = "refs/heads/lynx-witness/tiny/w1"
        assert promoted.place.git("rev-list", "--count", ref) == b"1"
        raw = promoted.place.git("cat-file", "commit", ref).partition(b"\n\n")[2]
    else:
        raw = (promoted.root / "registry/witnesses/tiny/w1.checkpoint").read_bytes()
    signed = read_note(raw, witness_key(W1))
    assert abs(signed.time - time.time()) < 60
    assert signed.head == tree_head(promoted.store.read(), "tiny", 1)
    assert printed == {
        "name": "w1",
        "origin": "lynx-pipeline/tiny",
        "size": 1,
        "root": signed.head.root.hex(),
        "time": signed.time,
    }


def test_nothing_is_signed_before_something_was_promoted(prod: Prod) -> None:
    """An empty ledger has nothing that a reader needs."""
    assert sign(prod, W1, "--first") == 1
    assert not (prod.folder / "witness w1/.lynx/witness/tiny.checkpoint").exists()
    prod.promote(prod.candidate("good"), OLD)
    assert sign(prod, W1, "--first") == 0


def test_one_key_signs_one_registry(promoted: Prod, tmp_path: Path) -> None:
    """The memory is the key's, whatever URL the registry has."""
    assert sign(promoted, W1, "--first") == 0
    copy = tmp_path / "copy"
    shutil.copytree(promoted.root / "registry", copy)
    folder = promoted.folder / f"witness {W1}"
    text = (folder / PYPROJECT).read_text().replace(str(promoted.root / "registry"), str(copy))

    def elsewhere() -> int:
        (folder / PYPROJECT).write_text(text)
        with chdir(folder), pytest.MonkeyPatch.context() as patch:
            for variable, value in environment(W1).items():
                patch.setenv(variable, value)
            return main(["registry", "witness"])

    assert elsewhere() == 0
    (copy / "index.checkpoint.json").unlink()
    (copy / "index.jsonl").write_bytes(b"")
    assert elsewhere() == 2


# ----- the key --------------------------------------------------------------------------------


def test_the_line_for_the_settings_is_printed(
    promoted: Prod, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As TOML takes it. A key that the settings don't name is refused, and the error says how to
    get the line."""
    monkeypatch.setenv(VARIABLE, private_pem(W1))
    assert main(["registry", "witness", "--show-key", W1]) == 0
    assert json.loads(capsys.readouterr().out) == str(witness_key(W1))
    assert main(["registry", "witness", "--show-key", "a/b"]) == 2
    assert "expected letters, digits" in capsys.readouterr().err
    monkeypatch.setenv("LYNX_ENV", "prod")
    for table in ("", witnesses_table(W2, required=1)):
        with chdir(machine(promoted, "new", table)):
            assert main(["registry", "witness", "--first"]) == 2
        shown = capsys.readouterr().err
        assert "is none of those in [tool.lynx_pipeline.witnesses]" in shown
        assert "--show-key NAME" in shown
    monkeypatch.setenv("LYNX_ENV", "dev")
    with chdir(machine(promoted, "new", table)):
        assert main(["registry", "witness", "--first"]) == 2
    assert "a witness signs the registry of prod" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value", ["", " ", "secret", "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----"]
)
def test_an_unusable_key_is_refused_and_not_shown(
    promoted: Prod,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    value: str,
) -> None:
    """Whatever it is."""
    monkeypatch.setenv("LYNX_ENV", "prod")
    monkeypatch.setenv(VARIABLE, value)
    with chdir(machine(promoted, "new", witnesses_table(W1, required=1))):
        assert main(["registry", "witness", "--first"]) == 2
    shown = capsys.readouterr()
    assert "a private Ed25519 key in PEM without a passphrase" in shown.err
    assert "secret" not in shown.out + shown.err


def start_witness(prod: Prod, git: str, *options: str) -> Done:
    """Run the command as a program, with ``git`` (sh) in place of git."""
    folder = machine(prod, f"witness {W1}", witnesses_table(W1, required=1))
    wrapper = prod.folder / "bin/git"
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(f'#!/bin/sh\n{git}\nexec {shutil.which("git")} "$@"\n')
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    environ = {
        **os.environ,
        **environment(W1),
        "PATH": f"{wrapper.parent}:{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "lynx_pipeline", "registry", "witness", *options]
    return run(command, folder, environ)


on_git = pytest.mark.parametrize(
    "prod", [pytest.param("git", marks=pytest.mark.slow)], indirect=True
)


@on_git
def test_a_witness_that_is_killed_before_it_publishes_signs_the_same_later(promoted: Prod) -> None:
    """It remembers what it was about to publish: a fork that it is shown then is refused."""
    content = take(promoted)
    kill = 'case "$*" in *" push "*) kill -9 $PPID; exit 1;; esac'
    assert start_witness(promoted, kill, "--first").returncode == -signal.SIGKILL
    assert take(promoted) == content
    show(promoted, {})
    promoted.promote(promoted.candidate("fork"), OLD)
    fork = take(promoted)
    assert sign(promoted) == 2
    assert take(promoted) == fork
    show(promoted, content)
    assert sign(promoted) == 0
    assert read(promoted, W1) == OLD


@on_git
def test_the_key_is_in_nothing_that_others_see(promoted: Prod) -> None:
    """Not in git's environment or arguments, the registry, the output, or the memory."""
    log = promoted.folder / "git.log"
    done = start_witness(promoted, f'{{ echo "$@"; env; }} >>"{log}"', "--first", "--debug")
    assert (done.returncode, done.stderr) == (0, "")
    assert "w1 has signed 1 entry of lynx-pipeline/tiny, and published that." in done.stdout
    logged = log.read_text()
    assert "LYNX_ENV=prod" in logged
    assert "push" in logged
    lines = private_pem(W1).splitlines()
    der = base64.b64decode(lines[1])
    kept = b"".join(
        path.read_bytes()
        for path in (promoted.folder / f"witness {W1}").rglob("*")
        if path.is_file()
    )
    assert isinstance(promoted.place, OnGit)
    objects = promoted.place.git("cat-file", "--batch-all-objects", "--batch")
    for secret in (VARIABLE.encode(), lines[1].encode(), der[-32:]):
        for raw in (logged.encode(), kept, objects, done.stdout.encode()):
            assert secret not in raw


@on_git
def test_a_remote_that_rejects_a_checkpoint_is_quoted(
    promoted: Prod, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rule of the server. Nothing is published; running it again is safe."""
    assert isinstance(promoted.place, OnGit)
    hook = promoted.place.hook("pre-receive", "echo only on Mondays >&2; exit 1")
    assert sign(promoted, W1, "--first") == 3
    assert "only on Mondays" in capsys.readouterr().err
    assert checkpoints(take(promoted)) == {}
    hook.unlink()
    assert sign(promoted) == 0


@pytest.mark.slow(seconds=5)
def test_a_witness_and_its_readers_need_only_the_light_client(promoted: Prod) -> None:
    """A reader without witnesses does not even import their rules."""
    assert sign(promoted, W1, "--first") == 0

    def imported(folder: Path, command: str) -> set[str]:
        program = [sys.executable, "-X", "importtime", "-m", "lynx_pipeline", "registry", command]
        done = run(program, folder, {**os.environ, **environment(W1)})
        assert done.returncode == 0, done.stderr
        return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    rules = "lynx_pipeline.domain.ledger.witnesses"
    witness = imported(promoted.folder / "witness w1", "witness")
    reader = imported(promoted.folder / "witness w1", "resolve")
    plain = imported(machine(promoted, "reader"), "resolve")
    assert [rules in it for it in (witness, reader, plain)] == [True, True, False]
    assert GATE_MODULES.isdisjoint(witness | reader | plain)
