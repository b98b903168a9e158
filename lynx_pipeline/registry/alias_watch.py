"""Watching MLflow's alias: an alarm if it names another version than the latest promotion.

The alarm changes nothing. A promotion moves the alias right after its entry, so for a moment the
two may differ; only a problem that is still there some seconds later is reported.
"""

import time
from collections.abc import Callable, Sequence
from queue import Empty, Queue

from lynx_pipeline.adapters import notify
from lynx_pipeline.adapters.notify import Sent
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.text import printable
from lynx_pipeline.errors import LynxError, SystemFailed
from lynx_pipeline.registry.mirror import alias_problem
from lynx_pipeline.registry.registry import Registry

CONFIRM_AFTER = 10.0  # seconds
_TRIES = 5


def report_moved_alias(model: str, problem: str) -> Sent:
    """Send the problem to the channels of ``APPRISE_URLS``, if there are any."""
    if not notify.configured():
        return Sent(0, ())
    return notify.send(f"{model}: MLflow's alias was moved", problem)


class AliasWatch:
    """Checks the aliases of the models that are named to :meth:`enqueue`, one after another.

    ``load`` gives the settings of the project's models, and is called anew for each check, so that
    a changed key counts. ``say`` gets one line for each check. A problem is reported once, until it
    changes or ends.
    """

    def __init__(self, load: Callable[[], Sequence[Settings]], say: Callable[[str], None]) -> None:
        self._load, self._say = load, say
        self._names = Queue[str]()
        self._known = dict[str, str | None]()  # what was reported last, by model

    def enqueue(self, name: str) -> None:
        """Have the alias of this registered model checked. Returns at once."""
        self._names.put(name)

    def check(self, seconds: float | None = None) -> None:
        """Wait until a model is named, at most ``seconds``, and check all that are. What fails is
        tried again."""
        try:
            names = {self._names.get(timeout=seconds): None}
        except Empty:
            return
        while not self._names.empty():
            names[self._names.get()] = None
        for name in names:
            for number in range(1, _TRIES + 1):
                if self._checked(name, number) or number == _TRIES:
                    break
                time.sleep(CONFIRM_AFTER)

    def _checked(self, name: str, number: int) -> bool:
        """Whether try ``number`` came to an end."""
        try:
            settings = {it.model: it for it in self._load()}.get(name)
            if settings is None:
                if name not in self._known:
                    self._known[name] = None
                    self._say(f"{printable(name)[:80]} is not a model of this project.")
                return True
            problem = _confirmed_problem(settings)
            if problem is not None and problem != self._known.get(name):
                sent = report_moved_alias(name, problem)
                if sent.failed and not sent.delivered:
                    raise SystemFailed(f"{problem} Not reported: {'; '.join(sent.failed)}.")
                for failure in sent.failed:
                    self._say(f"{name}: not reported on every channel: {failure}.")
            self._known[name] = problem
            right = f"{name}: MLflow's alias {settings.alias!r} names no other version than the"
            self._say(problem or f"{right} latest promotion.")
            return True
        except (LynxError, OSError) as error:
            self._say(f"{printable(name)[:80]}: try {number} of {_TRIES} failed: {error}")
            return False


def _confirmed_problem(settings: Settings) -> str | None:
    if alias_problem(Registry.open(settings)) is None:
        return None
    time.sleep(CONFIRM_AFTER)
    return alias_problem(Registry.open(settings))
