"""The scenarios of a rehearsal. Each acts, asserts the results, and returns what a person sees. A
scenario that fails raises ``AssertionError``.
"""

from collections.abc import Callable

from lynx_pipeline_tests.simulators.actions import failures, requests
from lynx_pipeline_tests.simulators.actions.scenario import Seen
from lynx_pipeline_tests.simulators.actions.stage import Stage

ALL: tuple[Callable[[Stage], list[Seen]], ...] = (
    requests.clean,
    requests.regressed,
    requests.failing,
    requests.label,
    requests.several_models,
    requests.hostile_comments,
    requests.strangers,
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
