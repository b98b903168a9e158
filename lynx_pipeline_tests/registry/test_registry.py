"""Every way to change the registry, with a real MLflow store.

No test has a verified identity, so ``prod`` has to refuse every change.
"""

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from lynx_pipeline.adapters.ledgers.directory import DirectoryLedger
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Evidence, Promoted
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed
from lynx_pipeline.evaluation.evidence import EVAL, PREDICTIONS
from lynx_pipeline.evaluation.inputs import read_eval_set
from lynx_pipeline.evaluation.judgement import GateRefused
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import (
    PROMOTED,
    baseline_of,
    eval_items,
    eval_set,
    fact,
    jsonl,
    project,
    sha256,
)
from lynx_pipeline_tests.support.world import Made, World

A, B = "a" * 64, "b" * 64


@pytest.fixture
def world(tmp_path: Path, tracking: Tracking) -> World:
    """A project with twelve questions, a perfect baseline and a tolerance of two points."""
    settings = project(
        tmp_path / "project",
        environ={"MLFLOW_TRACKING_URI": tracking.uri},
        pyproject='registry = "registry"\n',
    )
    return World(settings, tracking, tmp_path)


def test_confirm_can_refuse_just_before_the_ledger_changes(world: World) -> None:
    """``confirm`` runs after all other checks, and only if the ledger would change."""
    made = world.candidate("good")
    entry_counts: list[int] = []

    def confirm() -> None:
        entry_counts.append(len(Registry.open(world.settings).verify().entries))
        if len(entry_counts) == 1:
            raise Refused("not any more")

    def promote() -> Entry:
        registry = Registry.open(world.settings)
        return registry.promote(
            made.sha, "v0.1.0-dev", evidence=made.evidence, confirm=confirm
        ).entry

    before = world.state
    with pytest.raises(Refused, match="not any more"):
        promote()
    assert world.state == before
    assert promote() == promote()
    assert entry_counts == [0, 0]


def register(world: World, made: Made) -> Entry:
    """Register a run by hand, and check the warning."""
    with pytest.warns(UserWarning, match="NOT THE CI PATH"):
        return Registry.open(world.settings).register_pending(made.run_id).entry


def promote_by_hand(world: World, sha: str, semver: str) -> Entry[Promoted]:
    """Promote without evidence, and check the warning."""
    with pytest.warns(UserWarning, match="NOT THE CI PATH"):
        return Registry.open(world.settings).promote(sha, semver).entry


# ----- promotion through the gate -----------------------------------------------------------


def test_a_promotion_records_the_digests_of_its_evidence(world: World) -> None:
    """Each digest can be checked against its file months later."""
    good = world.candidate("good")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        entry = world.promote(good, "v0.1.0-dev")
    promotion = entry.fact
    assert (promotion.canonical_sha, promotion.semver, promotion.mlflow_run_id) == (
        good.sha,
        "v0.1.0-dev",
        good.run_id,
    )
    assert (promotion.env, promotion.event, promotion.model) == (Env.DEV, PROMOTED, "tiny")
    assert promotion.artifact_uri == f"runs:/{good.run_id}/model"
    items = read_eval_set(world.settings)
    assert isinstance(promotion.evidence, Evidence)
    assert asdict(promotion.evidence) == {
        "eval_set_dvc_hash": items.dvc_hash,
        "eval_set_sha256": items.sha256,
        "baseline_sha256": sha256(world.settings.baseline.read_bytes()),
        "candidate_eval_sha256": sha256((good.evidence / EVAL).read_bytes()),
        "predictions_sha256": sha256((good.evidence / PREDICTIONS).read_bytes()),
        "scorer": "normalised-exact-match/1",
        "isolation": "none",
        "tolerance": 0.02,
        "worst_bucket": "all.x",
        "worst_margin": 0.02,
    }
    # 0.05 dollars an hour at 100 tokens a second: a thousand tokens cost 0.05 / 360.
    assert promotion.cpqu == pytest.approx(0.05 / 360)
    assert Registry.open(world.settings).verify().entries == (entry,)


def test_a_refusal_names_each_failed_bucket(world: World) -> None:
    """Nothing is written."""
    good, bad = world.candidate("good"), world.candidate("bad", wrong=1)
    world.promote(good, "v0.1.0-dev")
    before = world.state
    with pytest.raises(GateRefused) as caught:
        world.promote(bad, "v0.2.0-dev")
    assert {bucket.name for bucket in caught.value.verdict.failed} == {"half.a", "all.x"}
    assert "half.a: fell 16.67 points, 14.67 below its floor" in str(caught.value)
    assert world.state == before


def test_a_repeated_promotion_changes_nothing(world: World) -> None:
    """A retried job succeeds and returns the same entry."""
    good = world.candidate("good")
    first = world.promote(good, "v0.1.0-dev")
    before = world.state
    assert world.promote(good, "v0.1.0-dev") == first
    assert world.state == before


def test_a_version_cannot_name_a_second_bundle(world: World) -> None:
    """Promotions by hand are refused too."""
    good, other = world.candidate("good"), world.candidate("other")
    world.promote(good, "v0.1.0-dev")
    register(world, other)
    before = world.state
    with pytest.raises(Refused, match="already names"):
        world.promote(other, "v0.1.0-dev")
    with pytest.warns(UserWarning), pytest.raises(Refused, match="already names"):
        Registry.open(world.settings).promote(other.sha, "v0.1.0-dev")
    assert world.state == before


def _edit_bundle(world: World, made: Made) -> None:
    loader = world.tracking.artifacts(made.run_id) / "model" / "code" / "tiny_loader.py"
    loader.write_text(loader.read_text() + "\n# another model\n")


def _add_file(world: World, made: Made) -> None:
    (world.tracking.artifacts(made.run_id) / "model" / "more.bin").write_bytes(b"x")


def _model(world: World, made: Made) -> Path:
    return world.tracking.artifacts(made.run_id) / "model"


def _rename_folder(world: World, made: Made) -> None:
    (_model(world, made) / "code").rename(_model(world, made) / "code2")


def _add_dotfile(world: World, made: Made) -> None:
    (_model(world, made) / ".hidden").write_bytes(b"")


def _add_symlink(world: World, made: Made) -> None:
    (_model(world, made) / "link").symlink_to(_model(world, made) / "MLmodel")


def _replace_file_by_link(world: World, made: Made) -> None:
    """Replace a file by a link out of the store, which MLflow does not follow."""
    loader = _model(world, made) / "code" / "tiny_loader.py"
    elsewhere = world.folder / "tiny_loader.py"
    loader.rename(elsewhere)
    elsewhere.write_text(elsewhere.read_text() + "# and more")
    loader.symlink_to(elsewhere)


def _edit_predictions(world: World, made: Made) -> None:
    file = made.evidence / PREDICTIONS
    file.write_bytes(file.read_bytes() + b"x")


def _edit_counts(world: World, made: Made) -> None:
    values = json.loads((made.evidence / EVAL).read_bytes())
    values["correct"] -= 1
    (made.evidence / EVAL).write_text(json.dumps(values))


def _evaluate_worse(world: World, made: Made) -> None:
    world.evaluate(made.evidence, made.run_id, made.sha, wrong=1)


def _baseline_of_other_data(world: World, made: Made) -> None:
    values = json.loads(world.settings.baseline.read_bytes())
    values["eval_set_dvc_hash"] = "0" * 32
    world.settings.baseline.write_text(json.dumps(values))


def _forge_eval_set(world: World, made: Made) -> None:
    values = json.loads(world.settings.baseline.read_bytes())
    values["eval_set_sha256"] = "0" * 64
    world.settings.baseline.write_text(json.dumps(values))


def _change_bucket_size(world: World, made: Made) -> None:
    values = json.loads(world.settings.baseline.read_bytes())
    values["buckets"]["half.a"] = {"accuracy": 1.0, "n": 5, "correct": 5}
    world.settings.baseline.write_text(json.dumps(values))


def _remove_run(world: World, made: Made) -> None:
    values = json.loads((made.evidence / EVAL).read_bytes())
    values["mlflow_run_id"] = None
    (made.evidence / EVAL).write_text(json.dumps(values))


def _replace_run(world: World, made: Made) -> None:
    other = world.candidate("other")
    values = json.loads((made.evidence / EVAL).read_bytes())
    values["mlflow_run_id"] = other.run_id
    (made.evidence / EVAL).write_text(json.dumps(values))


def _edit_eval_set(world: World, made: Made) -> None:
    easier = eval_items()
    easier[0]["accept"] = ["wrong"]
    world.settings.eval_set.write_bytes(jsonl(easier))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param(
            _edit_bundle, BadInput, "has changed since its evaluation", id="bundle edited"
        ),
        pytest.param(
            _add_file, BadInput, "has changed since its evaluation", id="file added to the bundle"
        ),
        pytest.param(
            _rename_folder,
            BadInput,
            "has changed since its evaluation",
            id="folder in the bundle renamed",
        ),
        pytest.param(
            _add_dotfile, BadInput, "has changed since its evaluation", id="dotfile in the bundle"
        ),
        pytest.param(
            _add_symlink, BadInput, r"has changed since|symlink", id="symlink in the bundle"
        ),
        pytest.param(
            _replace_file_by_link,
            SystemFailed,
            "outside the artifact",
            id="file replaced by a link",
        ),
        pytest.param(_edit_predictions, BadInput, "its SHA-256 differs", id="predictions edited"),
        pytest.param(_edit_counts, BadInput, "are not those of the stored", id="counts edited"),
        pytest.param(
            _evaluate_worse, Refused, "the gate refused", id="worse after another evaluation"
        ),
        pytest.param(
            _baseline_of_other_data,
            BadInput,
            "was measured on",
            id="baseline of a different eval set",
        ),
        pytest.param(_forge_eval_set, BadInput, "forged", id="eval set forged"),
        pytest.param(
            _change_bucket_size, BadInput, "half.a", id="bucket size changed in the baseline"
        ),
        pytest.param(_remove_run, BadInput, "names no MLflow run", id="no run"),
        pytest.param(
            _replace_run, BadInput, "has changed since its evaluation", id="different run"
        ),
        pytest.param(_edit_eval_set, BadInput, "the file was changed", id="eval set edited"),
        pytest.param(
            lambda w, m: w.settings.baseline.unlink(), BadInput, "no baseline", id="no baseline"
        ),
        pytest.param(
            lambda w, m: (m.evidence / PREDICTIONS).write_bytes(b""),
            BadInput,
            "SHA-256",
            id="predictions emptied",
        ),
        pytest.param(
            lambda w, m: (m.evidence / EVAL).unlink(), BadInput, "not evaluated", id="no evidence"
        ),
    ],
)
def test_a_promotion_checks_everything_again(
    world: World, change: Callable[[World, Made], object], error: type[LynxError], message: str
) -> None:
    """No earlier check is trusted. After a refusal, the registry does not even exist."""
    made = world.candidate("good")
    change(world, made)
    with pytest.raises(error, match=message):
        world.promote(made, "v0.1.0-dev")
    assert world.state == {}


def test_evidence_of_a_different_bundle_is_refused(world: World) -> None:
    """A bad candidate can't use a good candidate's evidence."""
    good, bad = world.candidate("good"), world.candidate("bad", wrong=6)
    with pytest.raises(BadInput, match="the evidence is of the bundle"):
        Registry.open(world.settings).promote(bad.sha, "v0.1.0-dev", evidence=good.evidence)
    assert world.state == {}


def test_a_raised_floor_refuses_a_candidate_that_passed_before(world: World) -> None:
    """The current baseline decides."""
    items = eval_set()
    low = baseline_of(items, {"half.a": 5, "all.x": 11})
    world.settings.baseline.write_text(json.dumps(low))
    made = world.candidate("almost", wrong=1)
    assert world.promote(made, "v0.1.0-dev").seq == 1
    world.settings.baseline.write_text(json.dumps(baseline_of(items)))
    with pytest.raises(GateRefused):
        world.promote(made, "v0.2.0-dev")


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


def test_dev_and_prod_in_one_registry_are_separate(world: World) -> None:
    """A version promoted in dev never resolves in prod."""
    store = DirectoryLedger(world.settings.root / "registry")
    values = {"event": PROMOTED, "canonical_sha": B}
    made = world.candidate("good")
    world.promote(made, "v9.9.9-dev")
    with pytest.raises(Refused, match="nothing was promoted in prod"):
        Registry.open(world.prod).resolve()
    store.append(lambda _: fact(env=Env.PROD, semver="v0.1.0", **values))
    # No command writes these two:
    store.append(lambda _: fact(env=Env.PROD, semver="v9.0.0-dev", **values))
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
    assert (found.mlflow_run_id, found.artifact_uri) == (one.run_id, f"runs:/{one.run_id}/model")
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
    with pytest.raises(Refused, match="never promoted"):
        Registry.open(world.settings).latest_after(made.sha)
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
