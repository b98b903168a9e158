"""CpQU, cost per quality unit: what a thousand tokens cost, per unit of accuracy.

``cost per 1k tokens = price per hour / (tokens per second x 3.6)``, where 3.6 converts tokens per
second to thousands of tokens per hour. For information only: the gate does not use it.
"""

NOT_READY = "not-deployment-ready"
LEAST_ACCURACY = 0.30


def cpqu(*, price_per_hour: float, tokens_per_second: float, accuracy: float) -> float | str | None:
    """Dollars per 1,000 tokens and unit of accuracy; :data:`NOT_READY` below 0.30 accuracy;
    None where no throughput was measured."""
    if accuracy < LEAST_ACCURACY:
        return NOT_READY
    if tokens_per_second <= 0:
        return None
    return price_per_hour / (tokens_per_second * 3.6) / accuracy
