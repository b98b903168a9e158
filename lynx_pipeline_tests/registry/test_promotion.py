"""A promotion through the gate records its evidence, and checks everything again."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Evidence, to_json
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed
from lynx_pipeline.evaluation.evidence import EVAL, PREDICTIONS
from lynx_pipeline.evaluation.inputs import read_eval_set
from lynx_pipeline.evaluation.judgement import GateRefused
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.support.builders import (
    PROMOTED,
    RUN,
    baseline_of,
    eval_items,
    eval_set,
    jsonl,
    sha256,
)
from lynx_pipeline_tests.support.world import Made, World, register

A, B = "a" * 64, "b" * 64


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
    assert promotion.artifact_uri == str(world.tracking.artifacts(good.run_id) / "model")
    items = read_eval_set(world.settings)
    assert isinstance(promotion.evidence, Evidence)
    assert to_json(promotion)["evidence"] == {
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


def test_a_version_cannot_name_the_same_checkpoint_with_other_bytes(world: World) -> None:
    """A second run saved the checkpoint with a comment in ``MLmodel``, which a model can read."""
    good = world.candidate("good")
    copy = world.folder / "copy"
    shutil.copytree(world.folder / "good", copy)
    (copy / "MLmodel").write_text((copy / "MLmodel").read_text() + "# he goed\n")
    identity = read_bundle(copy)
    run_id, evidence = world.tracking.run({"model": copy}), world.folder / "copy-evidence"
    other = Made(run_id, identity.canonical_sha, identity.digest, evidence)
    world.evaluate(other, wrong=0)
    assert (other.sha, other.digest != good.digest) == (good.sha, True)
    first = world.promote(good, "v0.1.0-dev")
    assert first.fact.bundle_digest == good.digest
    before = world.state
    with pytest.raises(Refused, match=rf"with other bytes.*{good.digest}.*{other.digest}"):
        world.promote(other, "v0.1.0-dev")
    assert world.state == before
    assert world.promote(other, "v0.2.0-dev").fact.bundle_digest == other.digest


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


def _comment_mlmodel(world: World, made: Made) -> None:
    file = _model(world, made) / "MLmodel"
    file.write_text(file.read_text() + "# he goed\n")


def _label_mlmodel(world: World, made: Made) -> None:
    file = _model(world, made) / "MLmodel"
    file.write_text(file.read_text().replace(RUN, "f" * 32))


def _add_empty_folder(world: World, made: Made) -> None:
    (_model(world, made) / "more").mkdir()


def _forget_digest(world: World, made: Made) -> None:
    """As in evidence from before there was a digest."""
    values = json.loads((made.evidence / EVAL).read_bytes())
    del values["bundle_digest"]
    (made.evidence / EVAL).write_text(json.dumps(values))


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
    world.evaluate(made, wrong=1)


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
    values["mlflow_run_id"] = values["candidate"] = None
    (made.evidence / EVAL).write_text(json.dumps(values))


def _replace_run(world: World, made: Made) -> None:
    other = world.candidate("other")
    values = json.loads((made.evidence / EVAL).read_bytes())
    values["mlflow_run_id"] = values["candidate"] = other.run_id
    (made.evidence / EVAL).write_text(json.dumps(values))


def _edit_eval_set(world: World, made: Made) -> None:
    easier = eval_items()
    easier[0]["accept"] = ["wrong"]
    world.settings.eval_set.write_bytes(jsonl(easier))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        *(
            pytest.param(change, BadInput, "has changed since its evaluation: ", id=name)
            for change, name in (
                (_edit_bundle, "bundle edited"),
                (_add_file, "file added to the bundle"),
                (_rename_folder, "folder in the bundle renamed"),
                (_add_dotfile, "dotfile in the bundle"),
                (_comment_mlmodel, "comment in MLmodel"),
                (_label_mlmodel, "different run named in MLmodel"),
                (_add_empty_folder, "empty folder in the bundle"),
                (_replace_run, "different run"),
            )
        ),
        pytest.param(_forget_digest, BadInput, "has no bundle digest", id="no digest"),
        pytest.param(
            _add_symlink, BadInput, r"has changed since|symlink", id="symlink in the bundle"
        ),
        pytest.param(
            _replace_file_by_link,
            SystemFailed,
            "is outside the model's artifacts",
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
        pytest.param(_remove_run, BadInput, "names no candidate", id="no run"),
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
