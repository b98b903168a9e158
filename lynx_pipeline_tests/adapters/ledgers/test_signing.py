"""Entries are signed as git's own configuration says, and not otherwise."""

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lynx_pipeline.adapters.ledgers.git import GitLedger
from lynx_pipeline.adapters.ledgers.git_repair import planned
from lynx_pipeline.adapters.ledgers.gto_stage import assign_stage
from lynx_pipeline.config import GitRemote
from lynx_pipeline.domain.ledger.repair import Trust
from lynx_pipeline.domain.release.signing import SigningPolicy
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.support.places import BRANCH, OnGit, facts, git, promote, version

pytestmark = pytest.mark.slow

# Rejects a ref whose new commit or tag has no valid signature, as GitHub's and GitLab's rules do.
ONLY_SIGNED = """\
while read -r old new ref; do
  case "$ref" in
    refs/heads/*) git verify-commit "$new" 2>&1 ;;
    refs/tags/*) git verify-tag "$new" 2>&1 ;;
  esac || { echo "GH006: $ref: Commits must have verified signatures." >&2; exit 1; }
done
"""


@pytest.fixture
def place(tmp_path: Path) -> OnGit:
    """An empty repository."""
    return OnGit.new(tmp_path / "registry.git")


@pytest.fixture
def key(tmp_path: Path, place: OnGit) -> Path:
    """A private SSH key, which the repository trusts."""
    file = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(file)]
    subprocess.run(command, check=True)
    signers = tmp_path / "signers"
    signers.write_text(f"t@t {file.with_suffix('.pub').read_text()}")
    place.git("config", "gpg.ssh.allowedSignersFile", str(signers))
    return file


def configure(monkeypatch: pytest.MonkeyPatch, folder: Path, settings: Mapping[str, str]) -> None:
    """Make ``settings`` the user's git configuration."""
    file = folder / "gitconfig"
    file.touch()
    for name, value in settings.items():
        git(folder, "config", "--file", str(file), name, value)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(file))


def ssh(key: Path) -> dict[str, str]:
    return {"gpg.format": "ssh", "user.signingKey": str(key)}


@pytest.fixture
def gpg(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The settings for a GnuPG key, in a home whose path is short enough for the agent's socket."""
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:
        monkeypatch.setenv("GNUPGHOME", home)
        make = ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "t@t"]
        subprocess.run([*make, "ed25519", "sign", "never"], check=True, capture_output=True)
        yield {"gpg.format": "openpgp", "user.signingKey": "t@t"}
        subprocess.run(["gpgconf", "--kill", "all"], check=True)


BOTH = {"commit.gpgSign": "true", "tag.gpgSign": "true"}


def test_commits_and_tags_are_signed_where_the_server_requires_it(
    place: OnGit, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several entries, evidence, and a tag that has to be restored."""
    place.hook("pre-receive", ONLY_SIGNED)
    configure(monkeypatch, tmp_path, {**BOTH, **ssh(key)})
    for number in range(3):
        promote(place.store, number, (b"evidence",))
    place.git("update-ref", "-d", "refs/tags/tiny@v0.2.0-dev")
    with pytest.raises(BadInput, match="is missing"):
        place.store.read()
    assert promote(place.store, 2).seq == 3
    assert facts(place.store) == [version(number) for number in range(3)]
    for commit in place.commits():
        place.git("verify-commit", commit)
    tags = [ref for ref in place.refs() if ref.startswith("refs/tags/")]
    assert len(tags) == 3
    for tag in tags:
        place.git("verify-tag", tag)


def test_the_tag_of_a_stage_is_signed_too(
    place: OnGit, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise such a server would reject it."""
    place.hook("pre-receive", ONLY_SIGNED)
    configure(monkeypatch, tmp_path, {**BOTH, **ssh(key)})
    promote(place.store, 1)
    tag = assign_stage(place.remote, "tiny", "prod", "v0.1.0-dev")
    place.git("verify-tag", tag)
    assert assign_stage(place.remote, "tiny", "prod", "v0.1.0-dev") == tag


def test_a_server_that_requires_signatures_is_quoted_and_signing_explained(
    place: OnGit, key: Path
) -> None:
    """Nothing is signed unless git is configured to."""
    place.hook("pre-receive", ONLY_SIGNED)
    with pytest.raises(SystemFailed, match="Commits must have verified signatures") as caught:
        promote(place.store, 1)
    assert "set commit.gpgSign, tag.gpgSign, gpg.format and user.signingKey" in str(caught.value)
    assert place.refs() == {}


def test_a_gnupg_key_signs_too(
    place: OnGit, gpg: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other format that hosting services verify."""
    place.hook("pre-receive", ONLY_SIGNED)
    configure(monkeypatch, tmp_path, {**BOTH, **gpg})
    promote(place.store, 1, (b"evidence",))
    assert b"BEGIN PGP SIGNATURE" in place.git("cat-file", "commit", BRANCH)
    place.git("verify-tag", place.tags()[0])
    assert facts(place.store) == [version(1)]


@pytest.mark.parametrize("signed", ["commit", "tag"])
def test_each_setting_is_honoured_by_itself(
    place: OnGit, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: str
) -> None:
    """A signed tag is still read as the entry's."""
    configure(monkeypatch, tmp_path, {f"{signed}.gpgSign": "true", **ssh(key)})
    promote(place.store, 1)
    assert facts(place.store) == [version(1)]
    (tag,) = [ref for ref in place.refs() if ref.startswith("refs/tags/")]
    raw = {
        "commit": place.git("cat-file", "commit", BRANCH),
        "tag": place.git("cat-file", "tag", tag),
    }
    assert {kind for kind, text in raw.items() if b"SSH SIGNATURE" in text} == {signed}


def test_the_committer_of_a_signed_entry_is_the_signer(
    place: OnGit, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers verify a signature against the committer's address. The time stays the entry's."""
    promote(place.store, 1)
    configure(monkeypatch, tmp_path, {**BOTH, **ssh(key)})
    promote(place.store, 2)
    form = "--format=%an %ae %cn %ce %at %ct"
    unsigned, signed = place.git("log", "--reverse", form, BRANCH).decode().splitlines()
    assert unsigned.split()[:4] == ["lynx-pipeline", "lynx-pipeline@localhost"] * 2
    assert signed.split()[:4] == ["lynx-pipeline", "lynx-pipeline@localhost", "t@t", "t@t"]
    assert signed.split()[4:] == unsigned.split()[4:]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"user.signingKey": "/nonexistent/key"}, "nonexistent", id="no such key"),
        pytest.param({}, "user.signingkey", id="no key"),
        pytest.param({"gpg.format": "openpgp", "gpg.program": "/nonexistent/gpg"}, "gpg", id="gpg"),
        pytest.param({"gpg.format": "x509", "gpg.x509.program": "false"}, "gpg", id="x509"),
        pytest.param({"gpg.format": "wax"}, "wax", id="unknown format"),
    ],
)
@pytest.mark.parametrize("signed", ["commit", "tag"])
def test_a_signature_that_fails_changes_nothing(
    place: OnGit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    words: str,
    signed: str,
) -> None:
    """The error has git's words."""
    promote(place.store, 1)
    before = place.refs()
    configure(monkeypatch, tmp_path, {f"{signed}.gpgSign": "true", "gpg.format": "ssh", **settings})
    with pytest.raises(SystemFailed, match=words) as caught:
        promote(place.store, 2)
    assert "nothing was changed" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert place.refs() == before


@pytest.mark.parametrize("used", [False, True], ids=["empty", "with a branch"])
def test_a_remote_with_another_object_format_is_named(tmp_path: Path, used: bool) -> None:
    """git can't push from one format to the other, so running it again can't help."""
    bare, work = tmp_path / "registry.git", tmp_path / "work"
    for folder, options in ((bare, ["--bare"]), (work, [])):
        folder.mkdir()
        git(folder, "init", "--quiet", "--object-format=sha256", *options)
    if used:
        git(work, "commit", "--quiet", "--allow-empty", "--message", "x")
        git(work, "push", "--quiet", str(bare), f"HEAD:refs/heads/{BRANCH}")
    store = GitLedger(GitRemote(f"file://{bare}", BRANCH), "tiny")
    with pytest.raises(BadInput, match="SHA-256") as caught:
        promote(store, 1)
    assert "again" not in str(caught.value)
    if used:
        with pytest.raises(BadInput, match="SHA-256"):
            store.read()


def test_a_repair_is_signed_too(
    place: OnGit, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit, its tag, and a tag that it makes again."""
    configure(monkeypatch, tmp_path, {**BOTH, **ssh(key)})
    for number in range(3):
        promote(place.store, number)
    before = place.store.read().entries
    place.overwrite(place.index() + b"{}\n")
    place.git("tag", "-d", "tiny@v0.2.0-dev")
    place.hook("pre-receive", ONLY_SIGNED)
    with planned(place.store, Trust(SigningPolicy(), lambda _: ())) as repair:
        repair.apply()
    assert place.store.read().entries == before
    for name in ("tiny@v0.2.0-dev", "tiny@repair-1"):
        place.git("verify-tag", name)
    place.git("verify-commit", BRANCH)
