"""The git store over file://, ssh:// and https://: git's own configuration opens the door."""

import base64
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from lynx_pipeline.adapters.ledgers import git as git_ledger
from lynx_pipeline.domain.ledger.chain import Ledger
from lynx_pipeline.errors import SystemFailed
from lynx_pipeline_tests.simulators.faults.git_commands import whole
from lynx_pipeline_tests.simulators.faults.remote import ssh
from lynx_pipeline_tests.support.builders import sha256
from lynx_pipeline_tests.support.git_server import Credentials, serving
from lynx_pipeline_tests.support.places import OnGit, facts, promote, version

PASSWORD = "correct-horse-battery"
BIG = tuple(bytes([number]) * 200_000 for number in range(4))


def only_ci(given: Credentials | None, *_: str) -> int:
    """The door for who knows the password."""
    return 200 if given == ("ci", PASSWORD) else 401


def configured(settings: Mapping[str, str]) -> dict[str, str]:
    """git's configuration in the environment, the way a CI runner hands it over."""
    environ = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        environ |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return environ


def helper(password: str) -> str:
    """A credential helper that knows this password."""
    return f"!f() {{ echo username=ci; echo password={password}; }}; f"


@pytest.fixture
def bare(tmp_path: Path) -> OnGit:
    """A repository that lets clones leave files out, and lets itself be pushed to over HTTP."""
    place = OnGit.new(tmp_path / "served" / "registry.git", partial=True)
    place.git("config", "http.receivepack", "true")
    return place


@pytest.fixture(params=["file", "ssh", "https"])
def place(
    request: pytest.FixtureRequest, bare: OnGit, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnGit]:
    """The repository by each way to it, with what git needs to go there."""
    if request.param == "file":
        yield bare
    elif request.param == "ssh":
        environ = ssh(bare.bare.parent, 'exec setsid --wait sh -c "$command"')
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        yield OnGit(bare.bare, f"ssh://git@host{bare.bare}")
    else:
        with serving(bare.bare.parent, only_ci) as server:
            settings = {"http.sslCAInfo": str(server.pem), "credential.helper": helper(PASSWORD)}
            for name, value in configured(settings).items():
                monkeypatch.setenv(name, value)
            yield OnGit(bare.bare, f"{server.url}/registry.git")


@pytest.fixture(autouse=True)
def no_doors_opened_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither certificates nor proxies but the tests' own."""
    for name in os.environ:
        if name.startswith(("GIT_SSL", "SSL_", "CURL_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def test_a_ledger_is_kept_over_every_transport(place: OnGit) -> None:
    """Reading where nothing is, appending with evidence, reading back, a second promoter."""
    assert place.store.read() == Ledger()
    promote(place.store, 1, BIG)
    promote(place.store, 2)
    assert promote(place.store, 2).seq == 2
    assert facts(place.store) == [version(1), version(2)]
    assert place.store.evidence(sha256(BIG[2])) == BIG[2]
    whole(place)


def test_a_hook_refuses_over_every_transport(place: OnGit) -> None:
    """Its words reach the promoter, and neither branch nor tag is there."""
    promote(place.store, 1)
    before = place.refs()
    place.hook("update", 'case "$1" in refs/tags/*) echo "no tags today" >&2; exit 1;; esac')
    with pytest.raises(SystemFailed, match="no tags today"):
        promote(place.store, 2)
    assert place.refs() == before


# ----- closed doors -------------------------------------------------------------------------


def told(place: OnGit) -> str:
    """What reading and appending fail with, soon."""
    start = time.monotonic()
    with pytest.raises(SystemFailed) as reading:
        place.store.read()
    with pytest.raises(SystemFailed) as appending:
        promote(place.store, 1)
    assert time.monotonic() - start < 20
    assert "\n" not in str(appending.value)
    assert place.refs() == {}
    return f"{reading.value}\n{appending.value}"


def test_a_wrong_password_is_refused_and_not_shown(
    bare: OnGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git is told so, asks nobody, and no message holds what was tried."""
    with serving(bare.bare.parent, only_ci) as server:
        settings = {"http.sslCAInfo": str(server.pem), "credential.helper": helper("hunter2!")}
        for name, value in configured(settings).items():
            monkeypatch.setenv(name, value)
        said = told(OnGit(bare.bare, f"{server.url}/registry.git"))
        assert any(server.asked)
    assert "Authentication failed" in said
    assert "hunter2!" not in said
    assert base64.b64encode(b"ci:hunter2!").decode() not in said


def test_no_password_at_all_is_refused_and_nobody_is_asked(
    bare: OnGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runner has nobody to type one."""
    with serving(bare.bare.parent, only_ci) as server:
        for name, value in configured({"http.sslCAInfo": str(server.pem)}).items():
            monkeypatch.setenv(name, value)
        said = told(OnGit(bare.bare, f"{server.url}/registry.git"))
    assert "could not read Username" in said


def test_an_untrusted_certificate_is_refused(bare: OnGit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is not sent to whoever answers there."""
    with serving(bare.bare.parent, only_ci) as server:
        for name, value in configured({"credential.helper": helper(PASSWORD)}).items():
            monkeypatch.setenv(name, value)
        said = told(OnGit(bare.bare, f"{server.url}/registry.git"))
        assert server.asked == []
    assert "certificate" in said
    assert PASSWORD not in said


def test_a_port_that_nobody_answers_on_is_the_system_failing(bare: OnGit) -> None:
    """The server was shut down."""
    with serving(bare.bare.parent, only_ci) as server:
        gone = OnGit(bare.bare, f"{server.url}/registry.git")
    said = told(gone)
    assert gone.remote.url in said


def test_an_unknown_repository_is_the_system_failing(place: OnGit) -> None:
    """Reading must not take it for an empty ledger."""
    with pytest.raises(SystemFailed):
        OnGit(place.bare, place.remote.url.replace("registry.git", "other.git")).store.read()


@pytest.mark.parametrize("partial", [True, False])
def test_a_server_that_speaks_only_the_first_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partial: bool
) -> None:
    """An sshd takes no GIT_PROTOCOL from its clients unless it is told to, and the server may
    filter and still give out nothing but what it advertises."""
    bare = OnGit.new(tmp_path / "registry.git", partial=partial)
    environ = ssh(tmp_path, 'unset GIT_PROTOCOL; exec setsid --wait sh -c "$command"')
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    place = OnGit(bare.bare, f"ssh://git@host{bare.bare}")
    promote(place.store, 1, (BIG[0],))
    promote(place.store, 2)
    assert facts(place.store) == [version(1), version(2)]
    assert place.store.evidence(sha256(BIG[0])) == BIG[0]


# ----- what is transferred ------------------------------------------------------------------


@pytest.fixture
def clones(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """The objects in each clone before it is removed: sizes by id."""
    found: list[dict[str, int]] = []
    real = git_ledger.GitLedger._clone

    @contextmanager
    def measured(store: git_ledger.GitLedger) -> Iterator[git_ledger._Clone]:
        with real(store) as clone:
            try:
                yield clone
            finally:
                listed = subprocess.run(
                    ["git", "cat-file", "--batch-all-objects", "--unordered", "--batch-check"],
                    cwd=clone.branch.folder,
                    capture_output=True,
                    check=True,
                ).stdout.decode()
                rows = (line.split() for line in listed.splitlines())
                found.append({row[0]: int(row[2]) for row in rows})

    monkeypatch.setattr(git_ledger.GitLedger, "_clone", measured)
    return found


def test_no_evidence_is_transferred_to_read_or_append(
    place: OnGit, clones: list[dict[str, int]]
) -> None:
    """From a remote that filters: not a byte of what earlier entries rest on, and of all the
    indexes that there were only the last."""
    for number in range(4):
        promote(place.store, number, (BIG[number % 4] + bytes([number]),))
    clones.clear()
    facts(place.store)
    promote(place.store, 9, (b"new",))
    promote(place.store, 9)
    place.store.evidence(sha256(b"new"))
    assert len(clones) == 4
    for objects in clones:
        assert max(objects.values()) < 10_000
    listed = place.git("rev-list", "--objects", "lynx-registry", "--", "index.jsonl").decode()
    indexes = {line.split()[0] for line in listed.splitlines() if line.endswith("index.jsonl")}
    assert len(indexes) == 5
    have = [len(indexes & objects.keys()) for objects in clones]
    assert have == [1, 2, 1, 0]


def test_a_remote_that_does_not_filter_sends_more_and_works(
    tmp_path: Path, clones: list[dict[str, int]]
) -> None:
    """Nothing else differs."""
    place = OnGit.new(tmp_path / "registry.git")
    promote(place.store, 1, (BIG[0],))
    promote(place.store, 2)
    assert max(clones[-1].values()) == len(BIG[0])
    assert facts(place.store) == [version(1), version(2)]
