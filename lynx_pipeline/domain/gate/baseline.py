"""The committed baseline, ``eval_baseline.json``.

The file is policy, so it is read strictly. An unknown key is refused, because it might be a rule
that this version would not apply. Leaves to others: whether the eval set on disk is the one the
baseline names (``evaluation``), and whether a change may be merged (``baseline_change``).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from lynx_pipeline.domain.scorers import EXACT, Scorer, scorer_named
from lynx_pipeline.domain.scores import Score, read_buckets
from lynx_pipeline.domain.strict_json import Fields, parse_object

# Two percentage points, where no baseline sets a tolerance yet.
USUAL_TOLERANCE = Fraction(2, 100)
LATENCY = "latency_p95_ms"
# Times the baseline's latency. The same model on two machines easily differs by half.
LATENCY_ALLOWED = 2.0
KEYS = (
    "eval_set_dvc_hash",
    "eval_set_sha256",
    "scorer",
    "baseline_sha",
    "previous_baseline_sha",
    "tolerance_pp",
    LATENCY,
    "justification",
    "buckets",
)


@dataclass(frozen=True, slots=True)
class Baseline:
    """The scores a candidate must keep, as counted by ``scorer``. ``tolerance`` is a fraction:
    0.02 is two percentage points. ``latency_p95_ms`` is in milliseconds per question, for
    comparison only. ``sha256`` is that of the file, in hex."""

    sha256: str
    eval_set_dvc_hash: str
    eval_set_sha256: str | None
    scorer: Scorer
    baseline_sha: str
    previous_baseline_sha: str | None
    tolerance: Fraction
    latency_p95_ms: float | None
    justification: str | None
    buckets: Mapping[str, Score]

    @property
    def latency_budget_ms(self) -> float | None:
        """The 95th-percentile latency above which a warning is shown."""
        return None if self.latency_p95_ms is None else LATENCY_ALLOWED * self.latency_p95_ms


def parse_baseline(raw: bytes, where: str) -> Baseline:
    """The baseline in ``raw``.

    Raises:
        BadInput: a key is missing, unknown or malformed.
    """
    fields = Fields(parse_object(raw, where), where)
    fields.refuse_unknown(KEYS)
    return Baseline(
        sha256=hashlib.sha256(raw).hexdigest(),
        eval_set_dvc_hash=fields.text("eval_set_dvc_hash"),
        eval_set_sha256=fields.optional_text("eval_set_sha256"),
        scorer=scorer_named(fields.optional_text("scorer") or EXACT.name, where),
        baseline_sha=fields.text("baseline_sha"),
        previous_baseline_sha=fields.optional_text("previous_baseline_sha"),
        tolerance=read_tolerance(fields, "tolerance_pp"),
        latency_p95_ms=_latency(fields, LATENCY),
        justification=fields.optional_text("justification"),
        buckets=read_buckets(fields.object("buckets"), where),
    )


def read_tolerance(fields: Fields, key: str) -> Fraction:
    """The tolerance under ``key``: a fraction from 0 up to, but not including, 1.

    Raises:
        BadInput: it is not one. A value of 1 or more was probably meant in points, so the
            message suggests the fraction.
    """
    value = fields.values.get(key)
    if isinstance(value, int | Decimal) and not isinstance(value, bool) and value >= 1:
        points = Decimal(value)
        fields.fail(
            key,
            "a fraction below 1 (0.02 is two percentage points, despite the name)",
            f"{points:.6g}; for {points:.6g} points write {points / 100:.6g}",
        )
    return Fraction(fields.fraction(key))


def _latency(fields: Fields, key: str) -> float | None:
    if fields.values.get(key) is None:
        return None
    value = fields.number(key)
    if value <= 0:
        fields.fail(key, "a number more than 0", str(value))
    return value
