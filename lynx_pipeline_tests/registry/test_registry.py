"""Every way to change the registry, with a real MLflow store.

No test has a verified identity, so ``prod`` has to refuse every change.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lynx_pipeline.adapters.ledgers.directory import DirectoryLedger
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.support.builders import (
    GOOD,
    PROMOTED,
    fact,
    project,
)
from lynx_pipeline_tests.support.signing import sign
from lynx_pipeline_tests.support.world import Made, World, promote_by_hand, register

A, B = "a" * 64, "b" * 64


# ----- the escape hatch ---------------------------------------------------------------------


def test_in_dev_a_registered_bundle_can_be_promoted_by_hand(world: World) -> None:
    """The entry has neither evidence nor an actor."""
    made = world.candidate("any", wrong=12)
    registered = register(world, made)
    assert register(world, made) == registered
    entry = promote_by_hand(world, made.sha, "v0.0.0-dev")
    assert (entry.seq, entry.fact.evidence, entry.fact.actor) == (2, None, None)
    assert b'"evidence":null' in entry.to_line()
    before = world.state
    assert promote_by_hand(world, made.sha, "v0.0.0-dev") == entry
    assert world.state == before


def test_an_unregistered_bundle_is_not_promoted_by_hand(world: World) -> None:
    """The registry would not know the bundle's run."""
    with pytest.warns(UserWarning), pytest.raises(Refused, match="is not registered"):
        Registry.open(world.settings).promote(A, "v0.0.0-dev")
    assert world.state == {}


def test_a_promotion_reports_the_download_of_a_large_model(world: World) -> None:
    """It downloads the bundle again, which can take minutes."""
    made = world.candidate("good", body=f"{GOOD}\n#{'x' * (17 << 20)}")
    said: list[str] = []
    Registry.open(world.settings).promote(
        made.sha, "v0.1.0-dev", evidence=made.evidence, say=said.append
    )
    first, second = said
    assert re.fullmatch(r"Downloading the model: \d files, 17 MiB\.", first)
    assert second.startswith("Downloaded after ")


@pytest.mark.parametrize("semver", ["v0.1.0", "v0.1.0-rc.1", "latest", "", "v0.1.0-dev+x"])
def test_dev_accepts_only_dev_versions(world: World, semver: str) -> None:
    """Evidence makes no difference."""
    made = world.candidate("good")
    register(world, made)
    before = world.state
    for evidence in (None, made.evidence):
        with pytest.raises(BadInput, match="can't name a promotion"):
            Registry.open(world.settings).promote(made.sha, semver, evidence=evidence)
    assert world.state == before


# ----- prod ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda m, s: Registry.open(s).register_pending(m.run_id).entry, id="register"),
        pytest.param(lambda m, s: Registry.open(s).promote(m.sha, "v0.1.0").entry, id="by hand"),
        pytest.param(
            lambda m, s: Registry.open(s).promote(m.sha, "v0.1.0", evidence=m.evidence).entry,
            id="with evidence",
        ),
        pytest.param(lambda m, s: Registry.open(s).rollback("v0.1.0").entry, id="rollback"),
    ],
)
def test_prod_refuses_every_write(
    world: World, monkeypatch: pytest.MonkeyPatch, write: Callable[[Made, Settings], object]
) -> None:
    """There is no verified identity, and variables of CI are no substitute."""
    for name in ("GITHUB_ACTIONS", "CI"):
        monkeypatch.setenv(name, "true")
    made = world.candidate("good")
    with pytest.raises(Refused, match="verified identity"):
        write(made, world.prod)
    assert world.state == {}


@pytest.mark.filterwarnings("ignore::lynx_pipeline.registry.IgnoredEntries")
def test_dev_and_prod_in_one_registry_are_separate(world: World) -> None:
    """A version promoted in dev never resolves in prod."""
    store = DirectoryLedger(world.settings.root / "registry")
    values = {"event": PROMOTED, "canonical_sha": B}
    made = world.candidate("good")
    world.promote(made, "v9.9.9-dev")
    with pytest.raises(Refused, match="nothing was promoted in prod"):
        Registry.open(world.prod).resolve()
    store.append(lambda _: fact(env=Env.PROD, semver="v0.1.0", **values), sign=sign)
    # No command writes these two:
    store.append(lambda _: fact(env=Env.PROD, semver="v9.0.0-dev", **values), sign=sign)
    store.append(lambda _: fact(env=Env.DEV, semver="v9.0.0", **values))
    assert Registry.open(world.prod).resolve().semver == "v0.1.0"
    assert Registry.open(world.settings).resolve().semver == "v9.9.9-dev"
    for semver in ("v9.9.9-dev", "v9.0.0-dev", "v9.0.0"):
        with pytest.raises(Refused, match="never promoted in prod"):
            Registry.open(world.prod).resolve(semver)


def test_prod_ignores_the_registry_in_the_environment(world: World, tmp_path: Path) -> None:
    """A serving process with a planted LYNX_REGISTRY still reads the real registry."""
    planted = DirectoryLedger(tmp_path / "planted")
    bad = fact(env=Env.PROD, event=PROMOTED, semver="v9.9.9", canonical_sha=B)
    planted.append(lambda _: bad)
    environ = {"LYNX_ENV": "prod", "LYNX_REGISTRY": str(planted.folder)}
    settings = load_settings(world.settings.root, environ)
    with pytest.raises(Refused, match="nothing was promoted"):
        Registry.open(settings).resolve()
    dev = load_settings(world.settings.root, {"LYNX_REGISTRY": str(planted.folder)})
    assert Registry.open(dev).verify().entries[0].fact == bad


def test_prod_has_no_default_registry(tmp_path: Path) -> None:
    """A registry that is not configured is an error. Without a verified identity, a change is
    refused before that."""
    settings = project(tmp_path / "p", environ={"LYNX_ENV": "prod", "LYNX_HOME": str(tmp_path)})
    with pytest.raises(BadInput, match="prod has no registry"):
        Registry.open(settings).resolve()
    with pytest.raises(Refused):
        Registry.open(settings).rollback("v0.1.0")


# ----- reading and rolling back -------------------------------------------------------------


def test_latest_follows_promotions_and_rollbacks(world: World) -> None:
    """A rollback is a new entry, and the newer version can still be resolved by name."""
    one, two = world.candidate("one"), world.candidate("two")
    settings = world.settings
    with pytest.raises(Refused, match="nothing was promoted"):
        Registry.open(settings).resolve()
    world.promote(one, "v0.1.0-dev")
    world.promote(two, "v0.2.0-dev")
    assert Registry.open(settings).resolve().canonical_sha == two.sha
    back = Registry.open(settings).rollback("v0.1.0-dev").entry
    assert (back.seq, back.fact.event, back.fact.canonical_sha) == (3, "rolled_back", one.sha)
    found = Registry.open(settings).resolve()
    assert (found.canonical_sha, found.semver) == (one.sha, "v0.1.0-dev")
    assert found.mlflow_run_id == one.run_id
    assert found.artifact_uri == str(world.tracking.artifacts(one.run_id) / "model")
    before = world.state
    Registry.open(settings).rollback("v0.1.0-dev")
    assert world.state == before
    assert Registry.open(settings).resolve("v0.2.0-dev").canonical_sha == two.sha
    Registry.open(settings).rollback("v0.2.0-dev")
    assert Registry.open(settings).resolve().canonical_sha == two.sha
    events = [entry.fact.event for entry in Registry.open(settings).history()]
    assert events == ["promoted", "promoted", "rolled_back", "rolled_back"]
    assert list(Registry.open(settings).history(Env.PROD)) == []


def test_only_promoted_versions_can_be_resolved_or_rolled_back_to(world: World) -> None:
    """Registration is not enough."""
    made = world.candidate("good")
    register(world, made)
    before = world.state
    with pytest.raises(Refused, match="never promoted"):
        Registry.open(world.settings).rollback("v0.1.0-dev")
    with pytest.raises(Refused, match="never promoted"):
        Registry.open(world.settings).resolve("v0.1.0-dev")
    assert world.state == before


def test_a_damaged_registry_is_refused(world: World) -> None:
    """A serving process must not start from a damaged registry."""
    made = world.candidate("good")
    world.promote(made, "v0.1.0-dev")
    file = world.settings.root / "registry" / "index.jsonl"
    file.write_bytes(file.read_bytes().replace(made.sha.encode(), B.encode()))
    registry = Registry.open(world.settings)
    for read in (registry.resolve, registry.verify, lambda: list(registry.history())):
        with pytest.raises(BadInput, match="line 1"):
            read()
    with pytest.raises(BadInput, match="line 1"):
        world.promote(made, "v0.2.0-dev")
