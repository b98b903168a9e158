"""Which checkpoints count, and what they prove about a ledger.

A checkpoint that a witness signed and that the ledger does not extend proves that the ledger was
wound back, or is another one than the witness saw. That is an error, however old it is, and however
many others agree. Else it counts if it is fresh: somebody who shows an old state for ever has no
fresh one.

Entries after the last checkpoint count: they are signed, and a rollback in an emergency must not
wait for the witnesses. What else is in a witness's place is ignored, because anybody who can push
may have put it there.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from lynx_pipeline.domain.ledger.chain import Ledger
from lynx_pipeline.domain.ledger.facts import TIME
from lynx_pipeline.domain.ledger.tree_head import Cosigned, origin_of, read_note, tree_head
from lynx_pipeline.domain.release.witnesses import WitnessPolicy
from lynx_pipeline.domain.text import number_of
from lynx_pipeline.errors import BadInput

TABLE = "[tool.lynx_pipeline.witnesses]"
_AHEAD_SECONDS = 600  # how far a witness's clock may be ahead


def problems(
    ledger: Ledger, model: str, policy: WitnessPolicy, now: float, where: str
) -> Mapping[str, str]:
    """The witnesses whose checkpoint does not count, each with the reason. ``now`` is in seconds
    since 1970, ``where`` names the registry.

    Raises:
        BadInput: the ledger does not extend a checkpoint that a witness signed.
    """
    published, found = dict(ledger.checkpoints), {}
    for key in policy.keys:
        raw = published.get(key.name)
        if raw is None:
            found[key.name] = "it has published no checkpoint here"
            continue
        try:
            signed = read_note(raw, key)
        except BadInput as error:
            found[key.name] = f"something else is in the place of its checkpoint: {error}"
            continue
        if signed.head.origin != origin_of(model):
            found[key.name] = f"its checkpoint is of {signed.head.origin!r:.80}"
            continue
        if not extends(ledger, model, signed):
            raise BadInput(
                f"{where}: the ledger has {number_of(len(ledger.entries), 'entry', 'entries')}, "
                f"and does not extend the first {signed.head.size} that the witness {key.name} "
                f"signed at {_text(signed.time)}. It was wound back, or this is another ledger. "
                "Restore it. If an administrator has replaced it on purpose, the witness needs a "
                "new key: see docs/signatures.md."
            )
        if reason := _not_fresh(signed, policy, now):
            found[key.name] = reason
    return found


def require(found: Mapping[str, str], policy: WitnessPolicy, where: str) -> None:
    """Check that enough witnesses count. ``found`` are the :func:`problems`.

    Raises:
        BadInput: fewer do than the policy requires.
    """
    count = len(policy.keys) - len(found)
    if count < policy.required:
        reasons = " ".join(f"{name}: {reason}." for name, reason in found.items())
        raise BadInput(
            f"{where}: only {count} of {len(policy.keys)} witnesses have a recent checkpoint here, "
            f"and {TABLE} requires {policy.required}. {reasons} Run 'lynx-pipeline registry "
            "witness' on these machines. If it succeeds, and this stays so, somebody withholds the "
            "checkpoints or shows an old state of the registry."
        )


def extends(ledger: Ledger, model: str, signed: Cosigned) -> bool:
    """Whether the ledger begins with the entries that were signed."""
    size = signed.head.size
    return size <= len(ledger.entries) and tree_head(ledger, model, size) == signed.head


def _not_fresh(signed: Cosigned, policy: WitnessPolicy, now: float) -> str | None:
    age = now - signed.time
    if age < -_AHEAD_SECONDS:
        return f"its checkpoint is of {_text(signed.time)}, in the future: a clock is wrong"
    if age > policy.max_age_hours * 3600:
        return (
            f"its checkpoint is of {_text(signed.time)}, more than {policy.max_age_hours:g} "
            "hours ago"
        )
    return None


def _text(time: int) -> str:
    try:
        return datetime.fromtimestamp(time, UTC).strftime(TIME)
    except (ValueError, OverflowError, OSError):
        return f"second {time}"
