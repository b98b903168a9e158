"""Two models in one project: each has its own gate inputs and its own ledger."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest

from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.errors import Refused
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.registry.prod.conftest import PYPROJECT, Prod, both_stores
from lynx_pipeline_tests.support.places import git
from lynx_pipeline_tests.support.world import Made

MODELS = """
[[tool.lynx_pipeline.models]]
name = "tiny"

[[tool.lynx_pipeline.models]]
name = "small"
price_per_hour = 1.0
"""


@dataclass(frozen=True)
class Models:
    """The checkout of the CI job, with two models that share eval set and baseline."""

    prod: Prod

    def settings(self, model: str) -> Settings:
        """The settings of one model in prod."""
        uri = self.prod.tracking.uri
        environ = {"LYNX_ENV": "prod", "LYNX_GATE": model, "MLFLOW_TRACKING_URI": uri}
        return load_settings(self.prod.root, environ)

    @property
    def colleague(self) -> Prod:
        """A colleague's clone."""
        root, prod = self.prod.folder / "colleague", self.prod
        git(prod.folder, "clone", "--quiet", "--branch=main", str(prod.origin.bare), str(root))
        return replace(prod, settings=replace(prod.settings, root=root))

    def promote(self, model: str, made: Made, semver: str) -> str:
        """Promote a candidate as this model; returns the entry's hash."""
        registry = Registry.open(self.settings(model))
        return registry.promote(made.sha, semver, evidence=made.evidence).entry.hash


@pytest.fixture
def models(prod: Prod) -> Models:
    """The project with the tables of two models."""
    prod.edit(PYPROJECT, 'model = "tiny"\n', "")
    with (prod.root / PYPROJECT).open("a") as file:
        file.write(MODELS)
    prod.commit()
    prod.issue_tokens_for_head()
    return Models(prod)


@both_stores
def test_two_models_that_are_promoted_at_once_lose_nothing(models: Models) -> None:
    """Each has its own ledger and its own tags, and may use the other's versions."""
    made = models.prod.candidate("good")
    with ThreadPoolExecutor(2) as pool:
        hashes = dict(
            zip(
                ("tiny", "small"),
                pool.map(lambda it: models.promote(it, made, "v0.1.0"), ("tiny", "small")),
                strict=True,
            )
        )
    for model in ("tiny", "small"):
        registry = Registry.open(models.settings(model))
        (entry,) = registry.verify().entries
        assert (entry.fact.model, entry.hash) == (model, hashes[model])
        assert registry.resolve().model == model


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        pytest.param(lambda p: p.edit(PYPROJECT, "= 1.0", "= 2.0"), "small", id="own table"),
        pytest.param(
            lambda p: p.edit(PYPROJECT, "judges = [", "stale_hours = 1\njudges = ["),
            "tiny small",
            id="the shared table",
        ),
        pytest.param(
            lambda p: p.edit(PYPROJECT, '"production"', '"stricter"'), "tiny small", id="policy"
        ),
        pytest.param(
            lambda p: p.edit(PYPROJECT, 'name = "tiny"', 'name = "mini"'), "tiny", id="renamed"
        ),
    ],
)
def test_a_change_of_one_model_does_not_stop_the_other(
    models: Models, change: Callable[[Prod], object], refused: str
) -> None:
    """A workflow run judges with its own model's gate inputs."""
    made = models.prod.candidate("good")
    colleague = models.colleague
    change(colleague)
    colleague.commit()
    for model in ("tiny", "small"):
        if model in refused.split():
            with pytest.raises(Refused, match=r"which changes \[tool.lynx_pipeline\]"):
                models.promote(model, made, "v0.1.0")
            assert Registry.open(models.settings(model)).verify().entries == ()
        else:
            assert models.promote(model, made, "v0.1.0")
