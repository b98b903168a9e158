"""The git store over file://, ssh:// and https://, with credentials from git's configuration."""

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
from lynx_pipeline_tests.simulators.faults.git_commands import assert_consistent
from lynx_pipeline_tests.simulators.faults.remote import ssh
from lynx_pipeline_tests.support.builders import sha256
from lynx_pipeline_tests.support.git_server import Credentials, serving
from lynx_pipeline_tests.support.places import OnGit, facts, promote, version

pytestmark = pytest.mark.slow

PASSWORD = "correct-horse-battery"
BIG = tuple(bytes([number]) * 200_000 for number in range(4))


def only_ci(given: Credentials | None, *_: str) -> int:
    """Allow access only with the password."""
    return 200 if given == ("ci", PASSWORD) else 401


def configured(settings: Mapping[str, str]) -> dict[str, str]:
    """git's configuration as environment variables, as a CI runner sets them."""
    environ = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        environ |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return environ


def helper(password: str) -> str:
    """A credential helper that knows this password."""
    return f"!f() {{ echo username=ci; echo password={password}; }}; f"


@pytest.fixture
def bare(tmp_path: Path) -> OnGit:
    """A repository that allows partial clones and pushes over HTTP."""
    place = OnGit.new(tmp_path / "served" / "registry.git", partial=True)
    place.git("config", "http.receivepack", "true")
    return place


@pytest.fixture(params=["file", "ssh", "https"])
def place(
    request: pytest.FixtureRequest, bare: OnGit, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OnGit]:
    """The repository over each transport, with the configuration that git needs for it."""
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
def isolated_certificates_and_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use only the tests' own certificates and proxies."""
    for name in os.environ:
        if name.startswith(("GIT_SSL", "SSL_", "CURL_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def test_a_ledger_is_kept_over_every_transport(place: OnGit) -> None:
    """Read an empty remote, append with evidence, read it back, repeat a promotion."""
    assert place.store.read() == Ledger()
    promote(place.store, 1, BIG)
    promote(place.store, 2)
    assert promote(place.store, 2).seq == 2
    assert facts(place.store) == [version(1), version(2)]
    assert place.store.evidence(sha256(BIG[2])) == BIG[2]
    assert_consistent(place)


def test_a_hooks_refusal_is_reported_over_every_transport(place: OnGit) -> None:
    """The promoter's error quotes the hook, and neither branch nor tag is pushed."""
    promote(place.store, 1)
    before = place.refs()
    place.hook("update", 'case "$1" in refs/tags/*) echo "no tags today" >&2; exit 1;; esac')
    with pytest.raises(SystemFailed, match="no tags today"):
        promote(place.store, 2)
    assert place.refs() == before


# ----- access denied ------------------------------------------------------------------------


def failures(place: OnGit) -> str:
    """The messages of a failed read and a failed append, neither of which may take long."""
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
    """git does not prompt, and no message contains the password that was tried."""
    with serving(bare.bare.parent, only_ci) as server:
        settings = {"http.sslCAInfo": str(server.pem), "credential.helper": helper("hunter2!")}
        for name, value in configured(settings).items():
            monkeypatch.setenv(name, value)
        messages = failures(OnGit(bare.bare, f"{server.url}/registry.git"))
        assert any(server.authorizations)
    assert "Authentication failed" in messages
    assert "hunter2!" not in messages
    assert base64.b64encode(b"ci:hunter2!").decode() not in messages


def test_a_missing_password_fails_without_a_prompt(
    bare: OnGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could answer a prompt on a CI runner."""
    with serving(bare.bare.parent, only_ci) as server:
        for name, value in configured({"http.sslCAInfo": str(server.pem)}).items():
            monkeypatch.setenv(name, value)
        messages = failures(OnGit(bare.bare, f"{server.url}/registry.git"))
    assert "could not read Username" in messages


def test_an_untrusted_certificate_is_refused(bare: OnGit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is not sent to that server."""
    with serving(bare.bare.parent, only_ci) as server:
        for name, value in configured({"credential.helper": helper(PASSWORD)}).items():
            monkeypatch.setenv(name, value)
        messages = failures(OnGit(bare.bare, f"{server.url}/registry.git"))
        assert server.authorizations == []
    assert "certificate" in messages
    assert PASSWORD not in messages


def test_a_server_that_is_down_is_a_system_failure(bare: OnGit) -> None:
    """The message names the remote."""
    with serving(bare.bare.parent, only_ci) as server:
        stopped = OnGit(bare.bare, f"{server.url}/registry.git")
    messages = failures(stopped)
    assert stopped.remote.url in messages


def test_an_unknown_repository_is_a_system_failure(place: OnGit) -> None:
    """Reading must not mistake it for an empty ledger."""
    with pytest.raises(SystemFailed):
        OnGit(place.bare, place.remote.url.replace("registry.git", "other.git")).store.read()


@pytest.mark.parametrize("partial", [True, False])
def test_a_ledger_is_kept_over_gits_original_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partial: bool
) -> None:
    """By default an sshd ignores its clients' GIT_PROTOCOL, and a server that filters may still
    serve only the refs that it advertises."""
    bare = OnGit.new(tmp_path / "registry.git", partial=partial)
    environ = ssh(tmp_path, 'unset GIT_PROTOCOL; exec setsid --wait sh -c "$command"')
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    place = OnGit(bare.bare, f"ssh://git@host{bare.bare}")
    promote(place.store, 1, (BIG[0],))
    promote(place.store, 2)
    assert facts(place.store) == [version(1), version(2)]
    assert place.store.evidence(sha256(BIG[0])) == BIG[0]


# ----- transferred objects ------------------------------------------------------------------


@pytest.fixture
def clones(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """The objects in each clone before it is removed: sizes by id."""
    found: list[dict[str, int]] = []
    real = git_ledger.GitLedger.clone

    @contextmanager
    def recording(store: git_ledger.GitLedger) -> Iterator[git_ledger.Clone]:
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

    monkeypatch.setattr(git_ledger.GitLedger, "clone", recording)
    return found


def test_no_evidence_is_transferred_to_read_or_append(
    place: OnGit, clones: list[dict[str, int]]
) -> None:
    """A remote that filters sends no evidence of earlier entries, and only the last version of the
    index."""
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
    """Only the transferred objects differ."""
    place = OnGit.new(tmp_path / "registry.git")
    promote(place.store, 1, (BIG[0],))
    promote(place.store, 2)
    assert max(clones[-1].values()) == len(BIG[0])
    assert facts(place.store) == [version(1), version(2)]
