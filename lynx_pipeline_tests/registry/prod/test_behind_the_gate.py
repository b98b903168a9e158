"""Ways around the gate: stale settings, look-alike refs and git's configuration."""

import shutil

import pytest

from lynx_pipeline.errors import Refused
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.registry.prod.conftest import PYPROJECT, Prod, raise_floors
from lynx_pipeline_tests.registry.prod.judging import before_judging
from lynx_pipeline_tests.support.places import OnGit

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('"production"', '"mine"', "identity"),
        ('registry = "registry"', 'registry = "elsewhere"', "registry"),
        ('model = "tiny"', 'model = "other"', "model"),
        ('model = "tiny"', 'model = "tiny"\nscorer = "numeric/1"', "scorer"),
        (
            'model = "tiny"',
            'model = "tiny"\nevaluation.answer_column = "score"',
            "evaluation.answer_column",
        ),
    ],
)
def test_settings_read_before_the_file_was_restored_are_refused(
    prod: Prod, old: str, new: str, key: str
) -> None:
    """The settings in use are compared with the commit, not only the file that they came from."""
    good = prod.candidate("good")
    prod.edit(PYPROJECT, old, new)
    settings = prod.prod
    prod.edit(PYPROJECT, new, old)
    if key == "identity":
        prod.issuer.changes["environment"] = "mine"
    with pytest.raises(Refused, match=f"^'{key}' differs from the commit"):
        Registry.open(settings).promote(good.sha, "v0.1.0", evidence=good.evidence)
    assert prod.place.all() == {}


def test_floors_raised_on_the_branch_during_judging_are_a_refusal(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A colleague merges after the identity check and before the verdict."""
    good = prod.candidate("good")

    def merge() -> None:
        raise_floors(prod.colleague)
        prod.colleague.commit()

    before_judging(monkeypatch, merge)
    with pytest.raises(Refused, match="has moved from"):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


def test_a_ref_that_only_ends_like_the_branch_is_ignored(prod: Prod) -> None:
    """Asked for refs/heads/main, git lists refs/a/refs/heads/main too, and lists it first."""
    good = prod.candidate("good")
    old = prod.git("rev-parse", "HEAD")
    raise_floors(prod)
    prod.commit()
    prod.git("checkout", "--quiet", old)
    prod.issue_tokens_for_head()
    prod.git("push", "--quiet", "origin", f"{old}:refs/a/refs/heads/main")
    with pytest.raises(Refused, match="has moved from"):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


@pytest.mark.parametrize("prod", ["git"], indirect=True)
@pytest.mark.parametrize("kind", ["insteadOf", "pushInsteadOf"])
@pytest.mark.parametrize("place", ["variables", "file"])
def test_git_configuration_cannot_redirect_the_registry(
    prod: Prod, monkeypatch: pytest.MonkeyPatch, kind: str, place: str
) -> None:
    """Nothing is read from the other repository, and nothing is written to it."""
    good = prod.candidate("good")
    evil = OnGit.new(prod.folder / "evil.git")
    real = prod.place.setting.removeprefix("git+").partition("#")[0]
    key = f"url.file://{evil.bare}.{kind}"
    if place == "variables":
        monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
        monkeypatch.setenv("GIT_CONFIG_KEY_0", key)
        monkeypatch.setenv("GIT_CONFIG_VALUE_0", real)
    else:
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(prod.folder / "gitconfig"))
        prod.git("config", "--file", str(prod.folder / "gitconfig"), key, real)
    with pytest.raises(Refused, match=f"redirects {real} to file://{evil.bare}"):
        prod.promote(good, "v0.1.0")
    with pytest.raises(Refused, match="redirects"):
        Registry.open(prod.prod).resolve()
    assert prod.place.all() == evil.all() == {}


@pytest.mark.parametrize("prod", ["git"], indirect=True)
@pytest.mark.parametrize("kind", ["insteadOf", "pushInsteadOf"])
def test_the_clones_configuration_does_not_affect_the_registry(prod: Prod, kind: str) -> None:
    """The registry is read and written from another folder, where it does not apply."""
    good = prod.candidate("good")
    evil = OnGit.new(prod.folder / "evil.git")
    real = prod.place.setting.removeprefix("git+").partition("#")[0]
    prod.git("config", f"url.file://{evil.bare}.{kind}", real)
    prod.promote(good, "v0.1.0")
    assert evil.all() == {}
    assert prod.place.store.read().entries[-1].fact.semver == "v0.1.0"


def test_git_configuration_cannot_redirect_the_branch_lookup(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stale copy of the remote can't hide that the floors were raised."""
    good = prod.candidate("good")
    stale = prod.folder / "stale.git"
    shutil.copytree(prod.origin.bare, stale)
    raise_floors(prod.colleague)
    prod.colleague.commit()
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{stale}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", prod.remote)
    with pytest.raises(Refused, match="redirects"):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


@pytest.mark.parametrize("prod", ["git"], indirect=True)
def test_the_users_git_settings_do_not_affect_the_registry(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings of a remote named origin, hooks and signed pushes are ignored."""
    good = prod.candidate("good")
    evil = OnGit.new(prod.folder / "evil.git")
    hooks = prod.folder / "hooks"
    hooks.mkdir()
    (hooks / "pre-push").write_text("#!/bin/sh\nexit 1\n")
    (hooks / "pre-push").chmod(0o755)
    config = prod.folder / "gitconfig"
    config.write_text(
        f'[remote "origin"]\n\tpushurl = file://{evil.bare}\n\tmirror = true\n'
        f"[core]\n\thooksPath = {hooks}\n[push]\n\tgpgSign = true\n\tpushOption = x\n"
        "[protocol]\n\tversion = 0\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    prod.promote(good, "v0.1.0")
    assert evil.all() == {}
    assert Registry.open(prod.prod).resolve().canonical_sha == good.sha
