"""Whom to ask about an asset: who has a say by ``CODEOWNERS`` in the checkout. Only shown: where it
counts, the deploy workflow reads the default branch's and asks GitHub."""

from collections.abc import Sequence

from dagster import AssetsDefinition, AssetSpec, map_asset_specs

from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.release.owners import PLACES, owners_of
from lynx_pipeline.errors import LynxError


def with_owners(assets: Sequence[AssetsDefinition]) -> list[AssetsDefinition]:
    """``assets`` with owners: of what is measured by, the baseline's, who approve a change of it;
    of a candidate and its promotion, the workflow's, who may ask for one."""
    try:
        settings = load_settings()
    except LynxError:  # definitions load anywhere; the steps say what is wrong
        return list(assets)
    text = _codeowners(settings)
    baseline = settings.baseline.relative_to(settings.root).as_posix()
    workflow = settings.identity.workflow if settings.identity else ""

    def owned(spec: AssetSpec) -> AssetSpec:
        path = baseline if spec.group_name == "inputs" else workflow
        names = owners_of(text, path) if path else ()
        # Dagster knows owners by e-mail address or as teams.
        return spec.replace_attributes(owners=[f"team:{name}" for name in sorted(names)])

    return list(map_asset_specs(owned, assets))


def _codeowners(settings: Settings) -> str:
    for place in PLACES:
        try:
            return (settings.root / place).read_text(errors="replace")
        except OSError:
            continue
    return ""
