"""The scenarios of a rehearsal. Each acts, asserts the results, and returns what a person sees. A
scenario that fails raises ``AssertionError``. What a runner of somebody else's can show is in
:mod:`lynx_pipeline_tests.simulators.act`.
"""

from collections.abc import Callable

from lynx_pipeline_tests.simulators.actions import failures, requests
from lynx_pipeline_tests.simulators.actions.scenario import Seen
from lynx_pipeline_tests.simulators.actions.stage import Stage

ALL: tuple[Callable[[Stage], list[Seen]], ...] = (
    requests.unrelated,
    requests.strangers,
    requests.again,
    requests.edited,
    requests.taken_back,
    requests.tampered,
    requests.relogged,
    requests.elsewhere,
    failures.mlflow_down,
    failures.dvc_down,
    failures.github_down,
    failures.killed,
    failures.twice,
    failures.late,
    failures.apart,
)
