"""Telling people of a promotion. The registry knows already: nothing here can undo it."""

from lynx_pipeline.adapters import notify
from lynx_pipeline.adapters.actions import run_url
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.errors import SystemFailed


def announcement(entry: Entry) -> tuple[str, str]:
    """Title and text."""
    fact = entry.fact
    lines = [f"sha {fact.canonical_sha}"]
    if fact.evidence:
        margin, bucket = fact.evidence.get("worst_margin"), fact.evidence.get("worst_bucket")
        if isinstance(margin, int | float):
            lines.append(f"worst margin {margin * 100:+.2f} points above its floor, in {bucket}")
    else:
        lines.append("without evidence")
    lines.append(f"MLflow run {fact.mlflow_run_id}, {fact.artifact_uri}")
    actor = fact.actor or {}
    if "repository" in actor and "run_id" in actor:
        lines.append(run_url(actor["repository"], actor["run_id"]))
    return f"{fact.model}: promoted {fact.semver} in {fact.env}", "\n".join(lines)


def announce(entry: Entry) -> int:
    """Tell every channel of a promotion; how many were told, 0 if none is configured.

    Raises:
        SystemFailed: a channel was not told. The promotion stands all the same.
    """
    if not notify.configured():
        return 0
    sent = notify.send(*announcement(entry))
    if sent.failed:
        raise SystemFailed(
            f"{entry.fact.semver} is promoted, and {len(sent.failed)} channels were not told: "
            f"{'; '.join(sent.failed)}."
        )
    return sent.took
