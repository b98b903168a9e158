"""The gate: a candidate's scores against the committed baseline, bucket by bucket.

The rule. For each bucket of the baseline::

    candidate accuracy >= baseline accuracy - tolerance

in exact arithmetic, so that a drop of exactly the tolerance passes and anything more fails.
A bucket the candidate lacks fails. A bucket the baseline lacks is reported as ungated and
decides nothing. No aggregate decides anything. Scores on another eval set, or with another
``n`` on the same one, are no verdict but an error: they can't be compared.

There is no option that turns a failed verdict into a passed one.
"""

from dataclasses import dataclass
from fractions import Fraction

from lynx_pipeline.domain.gate.baseline import Baseline
from lynx_pipeline.domain.scores import Score, Scores
from lynx_pipeline.errors import BadInput


@dataclass(frozen=True, slots=True)
class BucketVerdict:
    """One gated bucket. ``candidate`` is None where the candidate lacks the bucket."""

    name: str
    baseline: Score
    candidate: Score | None
    floor: Fraction

    @property
    def margin(self) -> Fraction | None:
        """How far above the floor, as a fraction; negative is a failure."""
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
        """Why, in one line."""
        if self.change is None or self.margin is None:
            return f"{self.name}: the candidate has no such bucket"
        if self.passed:
            return f"{self.name}: {points(self.change)} points, floor kept"
        fell, below = points(-self.change, sign=False), points(-self.margin, sign=False)
        return f"{self.name}: fell {fell} points, {below} below its floor"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate found. ``ungated`` are the candidate's buckets without a floor."""

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
        BadInput: the two were measured on different eval sets or by different scorers, or a
            bucket's ``n`` differs.
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
            "candidate and baseline name one eval_set_dvc_hash but different bytes: "
            f"eval_set_sha256 is {sums[0]}, the baseline's is {sums[1]}. "
            "One of the files was forged or damaged; pull the eval set again."
        )
    if candidate.scorer not in (None, baseline.scorer.name):
        raise BadInput(
            f"the candidate was scored by {candidate.scorer}, the baseline was counted by "
            f"{baseline.scorer.name}: the figures can't be compared. Evaluate the candidate "
            "again, or propose a new baseline."
        )
    verdicts = []
    for name, floor_score in baseline.buckets.items():
        score = candidate.buckets.get(name)
        if score is not None and score.n != floor_score.n:
            raise BadInput(
                f"bucket {name!r} has n = {score.n} in the candidate and n = {floor_score.n} in "
                "the baseline, on the same eval set. One of them was not counted on all items."
            )
        floor = floor_score.accuracy - baseline.tolerance
        verdicts.append(BucketVerdict(name, floor_score, score, floor))
    ungated = sorted(set(candidate.buckets) - set(baseline.buckets))
    return Verdict(tuple(verdicts), tuple(ungated), baseline.tolerance)


def points(share: Fraction, *, sign: bool = True) -> str:
    """A fraction as percentage points with two decimals: ``-1/60`` is ``-1.67``."""
    text = f"{float(share * 100):{'+' if sign else ''}.2f}"
    if share and float(text) == 0:
        return "-0.00..." if share < 0 else "0.00..."  # too small to show, but not nothing
    return "0.00" if share == 0 else text


def unresolvable(baseline: Baseline) -> tuple[str, ...]:
    """Buckets in which one item weighs more than the tolerance: there a single miss decides."""
    return tuple(n for n, s in baseline.buckets.items() if Fraction(1, s.n) > baseline.tolerance)


def _worst_first(bucket: BucketVerdict) -> tuple[bool, Fraction, str]:
    margin = bucket.margin
    return (margin is not None, Fraction(0) if margin is None else margin, bucket.name)
