"""A step's messages to the runner: files of names and values, workflow commands, and masks."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

# Disabled by GitHub too: they could change what later steps run.
_DISABLED = ("set-env", "add-path")
_COMMAND = re.compile(r"\s*::([a-z-]+)(?: +(.*?))?::(.*)", re.DOTALL)


class MalformedFile(Exception):
    """A file of names and values is malformed."""


def parse_env_file(text: str) -> dict[str, str]:
    """Parse ``GITHUB_OUTPUT``, ``GITHUB_ENV`` or ``GITHUB_STATE``: lines ``name=value``, or
    ``name<<END``, lines and ``END``.

    Raises:
        MalformedFile: a line has a different form, or a value does not end.
    """
    found: dict[str, str] = {}
    left = iter(text.removesuffix("\n").split("\n"))
    for line in left:
        if not line:
            continue
        split = re.match(r"(.*?)(=|<<)(.*)", line, re.DOTALL)
        if split is None or not split[1] or (split[2] == "<<" and not split[3]):
            raise MalformedFile(f"Invalid format '{line}'")
        name, sign, rest = split.groups()
        found[name] = rest if sign == "=" else "\n".join(_until(rest, left))
    return found


def _until(end: str, left: Iterator[str]) -> Iterator[str]:
    for line in left:
        if line == end:
            return
        yield line
    raise MalformedFile(f"Invalid value. Matching delimiter not found '{end}'")


def lines(text: str) -> list[str]:
    """The lines as the runner splits them, which ignores Unicode's other line breaks."""
    found = re.split(r"\r\n|\r|\n", text)
    return found if found[-1] else found[:-1]


@dataclass
class Masks:
    """The values that no log may show."""

    values: set[str] = field(default_factory=set)

    def add(self, value: str) -> None:
        """Hide this value, and each of its lines."""
        self.values |= {part for part in (value, *lines(value)) if part.strip()}

    def hide(self, text: str) -> str:
        """``text`` with ``***`` instead of each value."""
        for value in sorted(self.values, key=len, reverse=True):
            text = text.replace(value, "***")
        return text


@dataclass(frozen=True)
class Annotation:
    """An ``error``, ``warning`` or ``notice`` on the run's page."""

    level: str
    message: str
    title: str = ""


@dataclass
class Listener:
    """Reads a step's output: ``text`` is its log, ``outputs`` are those set with the old command.
    ``broken``: the output contains a command that fails the step."""

    masks: Masks
    text: str = ""
    annotations: list[Annotation] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    broken: bool = False
    _stopped_until: str = ""

    def read(self, written: str) -> None:
        """Process the step's standard output and error, in order."""
        for line in lines(written):
            self._line(line)

    def error(self, message: str) -> None:
        """Add an error of the runner itself."""
        self._annotate("error", message, {})

    def _line(self, line: str) -> None:
        found = _COMMAND.fullmatch(line)
        if self._stopped_until:
            if line.strip() == f"::{self._stopped_until}::":
                self._stopped_until = ""
            found = None
        name, properties, message = found.groups() if found else ("", "", "")
        values = _properties(properties or "")
        message = _plain(message)
        match name:
            case "error" | "warning" | "notice":
                self._annotate(name, message, values)
                return
            case "add-mask":
                self.masks.add(message)
            case "set-output":
                self.outputs[values.get("name", "")] = message
            case "stop-commands":
                self._stopped_until = message
            case _ if name in _DISABLED:
                self.broken = True
                self.error(f"The `{name}` command is disabled.")
                return
        self.text += self.masks.hide(line) + "\n"

    def _annotate(self, level: str, message: str, values: Mapping[str, str]) -> None:
        shown = self.masks.hide(message)
        self.annotations.append(Annotation(level, shown, self.masks.hide(values.get("title", ""))))
        self.text += f"##[{level}]{shown}\n"


def _properties(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {
        name.strip(): _plain(value.replace("%3A", ":").replace("%2C", ","))
        for name, _, value in pairs
    }


def _plain(text: str) -> str:
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
