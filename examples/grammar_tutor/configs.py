"""How the three shipped tutors are trained.

``reference`` sets the baseline. ``candidate`` reads more of the sentence and is a little better.
``regressed`` is the candidate after a data cleaning step that mistakes rare forms for typing errors
and so removes most irregular past forms. Leaves training to ``learner`` and ``train``.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything except the corpus that a checkpoint depends on.

    ``features`` names switches of :func:`grammar_tutor.context_features`; ``parent_sha`` is the
    canonical sha of the model this one is meant to replace; ``min_form_count`` drops rows whose
    answer occurs less often.
    """

    name: str
    seed: int
    epochs: int
    features: tuple[str, ...]
    parent_sha: str | None = None
    min_form_count: int = 0


REFERENCE = TrainConfig("reference", seed=20, epochs=4, features=("pairs", "bag"))
# Of forty seeds tried on the eval set, most are better overall, but few keep every bucket within
# the tolerance (a verb has only 60 items). This seed is an example of a pass, not a measurement of
# the method.
CANDIDATE = TrainConfig("candidate", seed=23, epochs=6, features=("pairs", "bag", "opening"))
REGRESSED = replace(CANDIDATE, name="regressed", min_form_count=10)
CONFIGS = {config.name: config for config in (REFERENCE, CANDIDATE, REGRESSED)}
