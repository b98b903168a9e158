"""Watching MLflow's alias: an alarm if it names another version than the latest promotion.

The alarm changes nothing. A promotion moves the alias right after its entry, so for a moment the
two may differ; only a problem that is still there some seconds later is reported.
"""

import time
from collections.abc import Callable, Iterable
from queue import Empty, Queue

from lynx_pipeline.adapters import notify
from lynx_pipeline.config import Settings
from lynx_pipeline.errors import LynxError, SystemFailed
from lynx_pipeline.registry.mirror import alias_problem
from lynx_pipeline.registry.registry import Registry

CONFIRM_AFTER = 10.0  # seconds
_TRIES = 5


def report_moved_alias(model: str, problem: str) -> None:
    """Send the problem to the channels of ``APPRISE_URLS``, if there are any.

    Raises:
        SystemFailed: a delivery failed.
    """
    if not notify.configured():
        return
    failed = notify.send(f"{model}: MLflow's alias was moved", problem).failed
    if failed:
        raise SystemFailed(f"{problem} Not every channel got this message: {'; '.join(failed)}.")


class AliasWatch:
    """Looks at the aliases of the models that are named to :meth:`moved`, one after another.
    ``say`` gets one line for each."""

    def __init__(self, projects: Iterable[Settings], say: Callable[[str], None]) -> None:
        self._settings = {it.model: it for it in projects}
        self._names = Queue[str]()
        self._say = say

    def moved(self, name: str) -> None:
        """Note that the alias of a registered model was moved. Returns at once."""
        if name in self._settings:
            self._names.put(name)

    def look(self, seconds: float | None = None) -> None:
        """Wait until a model is named, at most ``seconds``, and look at all that were. What fails
        is said, and tried again."""
        try:
            first = self._names.get(timeout=seconds)
        except Empty:
            return
        named = {first: None}
        while not self._names.empty():
            named[self._names.get()] = None
        for name in named:
            self._look_at(self._settings[name])

    def _look_at(self, settings: Settings) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                problem = _confirmed_problem(settings)
                if problem is not None:
                    report_moved_alias(settings.model, problem)
                self._say(problem or f"{settings.model}: MLflow's alias is as it should be.")
                return
            except (LynxError, OSError) as error:
                self._say(f"{settings.model}: try {attempt} of {_TRIES} failed: {error}")
                time.sleep(CONFIRM_AFTER)


def _confirmed_problem(settings: Settings) -> str | None:
    if alias_problem(Registry.open(settings)) is None:
        return None
    time.sleep(CONFIRM_AFTER)
    return alias_problem(Registry.open(settings))
