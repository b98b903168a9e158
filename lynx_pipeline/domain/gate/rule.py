"""The gate: a candidate's scores against the committed baseline, bucket by bucket.

The rule. For each bucket of the baseline::

    candidate accuracy >= baseline accuracy - tolerance

Guarantees:

- Exact arithmetic: a drop of exactly the tolerance passes, anything more fails.
- A bucket that is missing from the candidate fails. A bucket that is missing from the baseline is
  reported as ungated and does not affect the verdict.
- Only buckets decide, never an aggregate. A verdict without buckets is not a pass.
- Scores that can't be compared (another eval set, another scorer, another ``n``) are an error, not
  a verdict.
- No option turns a failed verdict into a passed one.

Leaves to others: whether the scores are true (``evaluation`` scores the stored predictions again),
and acting on the verdict (``registry``).
"""

from dataclasses import dataclass
from fractions import Fraction

from lynx_pipeline.domain.gate.baseline import Baseline
from lynx_pipeline.domain.scores import Score, Scores
from lynx_pipeline.errors import BadInput


@dataclass(frozen=True, slots=True)
class BucketVerdict:
    """One gated bucket. ``candidate`` is None where the candidate has no such bucket."""

    name: str
    baseline: Score
    candidate: Score | None
    floor: Fraction

    @property
    def margin(self) -> Fraction | None:
        """Distance above the floor, as a fraction; negative means failed."""
        return None if self.candidate is None else self.candidate.accuracy - self.floor

    @property
    def change(self) -> Fraction | None:
        """Candidate minus baseline, as a fraction."""
        return None if self.candidate is None else self.candidate.accuracy - self.baseline.accuracy

    @property
    def passed(self) -> bool:
        return self.margin is not None and self.margin >= 0

    @property
    def reason(self) -> str:
        """Why the bucket passed or failed, in one line."""
        if self.change is None or self.margin is None:
            return f"{self.name}: the candidate has no such bucket"
        if self.passed:
            return f"{self.name}: {points(self.change)} points, floor kept"
        fell, below = points(-self.change, sign=False), points(-self.margin, sign=False)
        return f"{self.name}: fell {fell} points, {below} below its floor"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's result. ``ungated`` are the candidate's buckets that are not in the baseline."""

    buckets: tuple[BucketVerdict, ...]
    ungated: tuple[str, ...]
    tolerance: Fraction

    @property
    def failed(self) -> tuple[BucketVerdict, ...]:
        """The failed buckets, worst first; a missing bucket is worse than any score."""
        return tuple(sorted((b for b in self.buckets if not b.passed), key=_worst_first))

    @property
    def passed(self) -> bool:
        """True only if there is at least one bucket and every bucket passed."""
        return bool(self.buckets) and not self.failed

    @property
    def worst(self) -> BucketVerdict:
        """The bucket nearest to, or furthest below, its floor."""
        return min(self.buckets, key=_worst_first)


def judge(baseline: Baseline, candidate: Scores) -> Verdict:
    """Apply the rule.

    Raises:
        BadInput: the scores come from different eval sets or scorers, or a bucket's ``n`` differs.
    """
    if candidate.eval_set_dvc_hash != baseline.eval_set_dvc_hash:
        raise BadInput(
            "the candidate was evaluated on another eval set than the baseline: "
            f"eval_set_dvc_hash is {candidate.eval_set_dvc_hash}, "
            f"the baseline's is {baseline.eval_set_dvc_hash}. Evaluate the candidate again."
        )
    sums = (candidate.eval_set_sha256, baseline.eval_set_sha256)
    if None not in sums and sums[0] != sums[1]:
        raise BadInput(
            "candidate and baseline have the same eval_set_dvc_hash but different bytes: "
            f"eval_set_sha256 is {sums[0]}, the baseline's is {sums[1]}. "
            "One of the files was forged or damaged. Pull the eval set again."
        )
    if candidate.scorer not in (None, baseline.scorer.name):
        raise BadInput(
            f"the candidate was scored by {candidate.scorer} and the baseline by "
            f"{baseline.scorer.name}, so they can't be compared. Evaluate the candidate again, or "
            "propose a new baseline."
        )
    verdicts = []
    for name, floor_score in baseline.buckets.items():
        score = candidate.buckets.get(name)
        if score is not None and score.n != floor_score.n:
            raise BadInput(
                f"bucket {name!r} has n = {score.n} in the candidate and n = {floor_score.n} in "
                "the baseline, on the same eval set. One of them does not cover all items. "
                "Evaluate the candidate again, or propose a new baseline."
            )
        floor = floor_score.accuracy - baseline.tolerance
        verdicts.append(BucketVerdict(name, floor_score, score, floor))
    ungated = sorted(set(candidate.buckets) - set(baseline.buckets))
    return Verdict(tuple(verdicts), tuple(ungated), baseline.tolerance)


def points(share: Fraction, *, sign: bool = True) -> str:
    """A fraction as percentage points with two decimals: ``-1/60`` is ``-1.67``."""
    text = f"{float(share * 100):{'+' if sign else ''}.2f}"
    if share and float(text) == 0:
        return "-0.00..." if share < 0 else "0.00..."  # too small to show, but not zero
    return "0.00" if share == 0 else text


def unresolvable(baseline: Baseline) -> tuple[str, ...]:
    """Buckets so small that one item is worth more than the tolerance: a single miss fails them."""
    return tuple(n for n, s in baseline.buckets.items() if Fraction(1, s.n) > baseline.tolerance)


def _worst_first(bucket: BucketVerdict) -> tuple[bool, Fraction, str]:
    margin = bucket.margin
    return (margin is not None, Fraction(0) if margin is None else margin, bucket.name)
