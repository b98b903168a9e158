"""The scenarios of a rehearsal. Each acts, asserts the results, and returns what a person sees. A
scenario that fails raises ``AssertionError``. What another runner can show is in
:mod:`lynx_pipeline_tests.simulators.act`: a promotion, a refusal, a hostile comment, and an MLflow
server that is down at the request.
"""

from collections.abc import Callable

from lynx_pipeline_tests.simulators.actions import failures, requests
from lynx_pipeline_tests.simulators.actions.scenario import Seen
from lynx_pipeline_tests.simulators.actions.stage import Stage

ALL: tuple[Callable[[Stage], list[Seen]], ...] = (
    requests.failing,
    requests.label,
    requests.several_models,
    requests.strangers,
    requests.too_many,
    requests.edited,
    requests.taken_back,
    requests.tampered,
    requests.relogged,
    requests.elsewhere,
    failures.mlflow_down,
    failures.dvc_down,
    failures.github_down,
    failures.rejected,
    failures.killed,
    failures.twice,
    failures.late,
    failures.apart,
    failures.unheard,
)
