"""The owners of assets, from ``CODEOWNERS`` in the checkout. Only for display: the deploy workflow
reads the default branch's file and asks GitHub."""

from collections.abc import Sequence

from dagster import AssetsDefinition, AssetSpec, map_asset_specs

from lynx_pipeline.config import Settings
from lynx_pipeline.defs.gate import EVAL_BASELINE, EVAL_SET, Gate
from lynx_pipeline.domain.release.owners import PLACES, owners_of
from lynx_pipeline.errors import LynxError


def with_owners(gate: Gate, assets: Sequence[AssetsDefinition]) -> list[AssetsDefinition]:
    """``assets`` with owners. Inputs belong to the baseline's owners, who approve its changes; a
    candidate and its promotion belong to the workflow's owners, who may request a release."""
    try:
        settings = gate.settings()
    except LynxError:  # definitions load everywhere; the steps report what is wrong
        return list(assets)
    text = _codeowners(settings)
    baseline = settings.baseline.relative_to(settings.root).as_posix()
    workflow = settings.identity.workflow if settings.identity else ""

    inputs = {gate.key(EVAL_SET), gate.key(EVAL_BASELINE)}

    def owned(spec: AssetSpec) -> AssetSpec:
        path = baseline if spec.key in inputs else workflow
        names = owners_of(text, path) if path else ()
        # Dagster accepts e-mail addresses and teams as owners.
        return spec.replace_attributes(owners=[f"team:{name}" for name in sorted(names)])

    return list(map_asset_specs(owned, assets))


def _codeowners(settings: Settings) -> str:
    for place in PLACES:
        try:
            return (settings.root / place).read_text(errors="replace")
        except OSError:
            continue
    return ""
