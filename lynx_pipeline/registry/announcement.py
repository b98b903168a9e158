"""Announcing a promotion. The registry has already changed: nothing here can undo it."""

from lynx_pipeline.adapters import notify
from lynx_pipeline.adapters.actions import run_url
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Actor, Evidence, Promoted
from lynx_pipeline.domain.release.identity import Policy
from lynx_pipeline.errors import SystemFailed


def announcement(entry: Entry[Promoted], policy: Policy | None) -> tuple[str, str]:
    """Title and text. ``policy`` says which server's pages may be linked."""
    fact = entry.fact
    lines = [f"sha {fact.canonical_sha}"]
    if isinstance(fact.evidence, Evidence):
        margin = f"{fact.evidence.worst_margin * 100:+.2f}"
        lines.append(
            f"worst margin {margin} points above its floor, in {fact.evidence.worst_bucket}"
        )
    else:
        lines.append("without evidence")
    lines.append(f"MLflow run {fact.mlflow_run_id}, {fact.artifact_uri}")
    if isinstance(fact.actor, Actor):
        lines += [url] if (url := run_url(fact.actor, policy)) else []
    return f"{fact.model}: promoted {fact.semver} in {fact.env}", "\n".join(lines)


def announce(entry: Entry[Promoted], policy: Policy | None) -> int:
    """Announce a promotion on every channel; returns how many, 0 if none is configured.

    Raises:
        SystemFailed: a delivery failed. The promotion is not affected.
    """
    if not notify.configured():
        return 0
    sent = notify.send(*announcement(entry, policy))
    if sent.failed:
        raise SystemFailed(
            f"{entry.fact.semver} is promoted, but not every channel got the announcement: "
            f"{'; '.join(sent.failed)}."
        )
    return sent.delivered
