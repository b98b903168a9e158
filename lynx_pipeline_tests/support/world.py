"""A project with a registry and a real MLflow store, and candidates for promotion."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.mlflow_tracking import connected
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.eval_set import EvalSet
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.evaluation.evidence import EVAL, PREDICTIONS
from lynx_pipeline.evaluation.inputs import read_eval_set
from lynx_pipeline.evaluation.storage.parquet import predictions_bytes
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.conftest import Tracking
from lynx_pipeline_tests.support.builders import bundle, candidate_eval


@dataclass(frozen=True)
class Made:
    """A run, its bundle's sha and digest, and evidence of its evaluation."""

    run_id: str
    sha: str
    digest: str
    evidence: Path


@dataclass(frozen=True)
class World:
    """A project whose registry is a folder in it, and candidates logged in MLflow."""

    settings: Settings
    tracking: Tracking
    folder: Path
    isolation: str = "none"

    def candidate(self, name: str, wrong: int = 0, body: str | None = None) -> Made:
        """An evaluated candidate whose first ``wrong`` answers are wrong. ``body`` answers where
        the model is really asked, see :func:`~lynx_pipeline_tests.support.builders.bundle`."""
        made = bundle(self.folder / name, body=body or f"return [{name!r}]")
        run_id = self.tracking.run({"model": made})
        identity = read_bundle(made)
        evidence = self.folder / f"{name}-evidence"
        evaluated = Made(run_id, identity.canonical_sha, identity.digest, evidence)
        self.evaluate(evaluated, wrong)
        return evaluated

    def forget_alias(self) -> None:
        """Remove MLflow's alias: the store is shared, and another test may have set it."""
        with connected(self.tracking.uri) as client, suppress(MlflowException):
            client.delete_registered_model_alias(self.settings.model, self.settings.alias)

    def evaluate(self, candidate: Made, wrong: int) -> None:
        """Write valid evidence."""
        items = read_eval_set(self.settings)
        assert isinstance(items, EvalSet)
        answers: dict[str, str | None] = {
            item.id: "wrong" if k < wrong else item.answers[0] for k, item in enumerate(items.items)
        }
        raw = predictions_bytes(list(answers), list(answers.values()))
        made = candidate_eval(
            items,
            raw,
            answers,
            isolation=self.isolation,
            mlflow_run_id=candidate.run_id,
            canonical_sha=candidate.sha,
            bundle_digest=candidate.digest,
        )
        evidence = candidate.evidence
        evidence.mkdir(exist_ok=True)
        (evidence / PREDICTIONS).write_bytes(raw)
        (evidence / EVAL).write_text(json.dumps(made.to_json()))

    def promote(self, made: Made, semver: str) -> Entry[Promoted]:
        """Promote it through the gate."""
        return Registry.open(self.settings).promote(made.sha, semver, evidence=made.evidence).entry

    @property
    def prod(self) -> Settings:
        """The same project with LYNX_ENV=prod."""
        environ = {"LYNX_ENV": "prod", "MLFLOW_TRACKING_URI": self.tracking.uri}
        return load_settings(self.settings.root, environ)

    @property
    def state(self) -> dict[str, bytes]:
        """The registry's bytes."""
        found = (self.settings.root / "registry").rglob("*")
        return {p.name: p.read_bytes() for p in found if p.is_file() and p.name != ".lock"}


def register(world: World, made: Made) -> Entry:
    """Register a run by hand, and check the warning."""
    with pytest.warns(UserWarning, match="NOT THE CI PATH"):
        return Registry.open(world.settings).register_pending(made.run_id).entry


def promote_by_hand(world: World, sha: str, semver: str) -> Entry[Promoted]:
    """Promote without evidence, and check the warning."""
    with pytest.warns(UserWarning, match="NOT THE CI PATH"):
        return Registry.open(world.settings).promote(sha, semver).entry


def move_alias(world: World, run_id: str) -> None:
    """Point the alias at a model that nobody promoted, as anybody who can write to MLflow could."""
    with connected(world.tracking.uri) as client:
        made = client.create_model_version("tiny", f"runs:/{run_id}/model", run_id=run_id)
        client.set_registered_model_alias("tiny", world.settings.alias, made.version)
