"""GitHub's expressions, as far as our workflows use them. Anything else raises an error.

Values are JSON's: None, bool, numbers, str, lists and mappings.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Context = Mapping[str, Any]
# The values of success(), failure() and cancelled(); without it these functions are unknown.
Status = Mapping[str, bool]


class ExpressionError(Exception):
    """An expression that GitHub would reject, or that is not modelled here."""


def evaluate(text: str, context: Context, status: Status | None = None) -> Any:
    """The value of one expression, given without ``${{ }}``."""
    return _Parser(text, context, status).whole()()


def value(text: Any, context: Context) -> Any:
    """The value of a workflow's setting. A single expression keeps its type."""
    if isinstance(text, str) and (only := _EXPRESSION.fullmatch(text.strip())):
        return evaluate(only[1], context)
    return interpolate(text, context) if isinstance(text, str) else text


def interpolate(text: str, context: Context) -> str:
    """``text`` with each ``${{ }}`` replaced by its value."""
    done = _EXPRESSION.sub("", text)
    if "${{" in done:
        raise ExpressionError(f"an expression that does not end: {text!r}")
    return _EXPRESSION.sub(lambda found: _printed(evaluate(found[1], context)), text)


def condition(text: str | bool | None, context: Context, status: Status) -> bool:
    """Whether an ``if:`` holds; only after success, unless it calls a status function."""
    written = "success()" if text in (None, "") else as_text(text).strip()
    if only := _EXPRESSION.fullmatch(written):
        written = only[1]
    elif "${{" in written:
        raise ExpressionError(f"text around an expression is always true: {written!r}")
    parser = _Parser(written, context, status)
    node = parser.whole()
    return (status["success"] or parser.uses_status) and truthy(node())


def truthy(it: Any) -> bool:
    """Whether GitHub treats a value as true; lists and mappings always are."""
    return not (it is None or it is False or it == "" or (_is_number(it) and (it == 0 or it != it)))


def as_text(it: Any) -> str:
    """A value as GitHub converts it to text."""
    match it:
        case None:
            return ""
        case bool():
            return str(it).lower()
        case str():
            return it
        case int() | float():
            return f"{it:.15g}".upper()
    return "Array" if isinstance(it, list) else "Object"


def equal(left: Any, right: Any) -> bool:
    """GitHub's ``==``: texts ignore case; values of different types are compared as numbers."""
    if isinstance(left, str) and isinstance(right, str):
        return left.casefold() == right.casefold()
    if isinstance(left, list | Mapping) or isinstance(right, list | Mapping):
        return left is right
    return left is right or _number(left) == _number(right)


# ----- values -------------------------------------------------------------------------------


class _Filtered(list[Any]):
    """The result of ``.*``; its property is the list of that property of each element."""


def _is_number(it: Any) -> bool:
    return isinstance(it, int | float) and not isinstance(it, bool)


def _number(it: Any) -> float:
    if not isinstance(it, str):
        return float(it or 0)
    try:
        return float(it) if it.strip() else 0.0
    except ValueError:
        return math.nan


def _printed(it: Any) -> str:
    if isinstance(it, list | Mapping):
        raise ExpressionError("a list or a mapping where text is expected: use toJSON")
    return as_text(it)


def _property(it: Any, key: Any) -> Any:
    if isinstance(it, _Filtered):
        found = (_property(element, key) for element in it)
        return _Filtered(one for one in found if one is not None)
    if isinstance(it, Mapping):
        wanted = as_text(key).casefold()
        return next((held for name, held in it.items() if name.casefold() == wanted), None)
    if isinstance(it, list) and _is_number(key):
        return it[int(key)] if 0 <= key < len(it) else None
    return None


def _all(it: Any) -> _Filtered:
    if isinstance(it, Mapping):
        return _Filtered(it.values())
    return _Filtered(it if isinstance(it, list) else ())


# ----- functions ----------------------------------------------------------------------------


def _contains(where: Any, what: Any) -> bool:
    if isinstance(where, list):
        return any(equal(one, what) for one in where)
    if isinstance(where, Mapping) or isinstance(what, list | Mapping):
        return False
    return as_text(what).casefold() in as_text(where).casefold()


def _format(form: Any, *values: Any) -> str:
    def put(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[1] is None or int(found[1]) >= len(values):
            raise ExpressionError(f"format: {found[0]!r} in {form!r} has no argument")
        return as_text(values[int(found[1])])

    return re.sub(r"\{\{|\}\}|\{(\d+)\}|[{}]", put, as_text(form))


def _from_json(text: Any) -> Any:
    try:
        return json.loads(as_text(text))
    except ValueError as error:
        raise ExpressionError(f"fromJSON: {error}") from None


# Each function with its numbers of arguments.
_FUNCTIONS: Mapping[str, tuple[range, Callable[..., Any]]] = {
    "contains": (range(2, 3), _contains),
    "startswith": (
        range(2, 3),
        lambda text, start: as_text(text).casefold().startswith(as_text(start).casefold()),
    ),
    "endswith": (
        range(2, 3),
        lambda text, end: as_text(text).casefold().endswith(as_text(end).casefold()),
    ),
    "format": (range(1, 100), _format),
    "tojson": (range(1, 2), lambda it: json.dumps(it, indent=2, ensure_ascii=False)),
    "fromjson": (range(1, 2), _from_json),
}

# ----- the grammar --------------------------------------------------------------------------

_EXPRESSION = re.compile(r"\$\{\{((?:[^'}]|'[^']*'|\}(?!\}))*)\}\}")
_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')"
    r"|(?P<number>-?(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?))"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_-]*)|(?P<sign>==|!=|&&|\|\||[][!().,*]))\s*"
)
_WORDS = {"true": True, "false": False, "null": None}

# Evaluates a part only when called: what comes after a false && is not evaluated.
_Node = Callable[[], Any]


class _Parser:
    """Compiles an expression to a function. Every name must be known, even in unused parts."""

    def __init__(self, text: str, context: Context, status: Status | None) -> None:
        self._text, self._context, self._status = text, context, status or {}
        self.uses_status = False
        self._tokens: list[tuple[str, str]] = []
        position = 0
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None or found.lastgroup is None:
                raise self._wrong(f"invalid syntax at {text[position:]!r}")
            self._tokens.append((found.lastgroup, found[found.lastgroup]))
            position = found.end()

    def whole(self) -> _Node:
        """Parse all of the text."""
        node = self._either()
        if self._tokens:
            raise self._wrong(f"unexpected {self._tokens[0][1]!r}")
        return node

    def _wrong(self, why: str) -> ExpressionError:
        return ExpressionError(f"{why}, in {self._text!r}")

    def _next(self) -> tuple[str, str]:
        return self._tokens.pop(0) if self._tokens else ("end", "the end")

    def _accept(self, *signs: str) -> str | None:
        if self._tokens and self._tokens[0][0] == "sign" and self._tokens[0][1] in signs:
            return self._next()[1]
        return None

    def _need(self, sign: str) -> None:
        if not self._accept(sign):
            raise self._wrong(f"{sign!r} is missing")

    def _either(self) -> _Node:
        node = self._both()
        while self._accept("||"):
            node = _or(node, self._both())
        return node

    def _both(self) -> _Node:
        node = self._equality()
        while self._accept("&&"):
            node = _and(node, self._equality())
        return node

    def _equality(self) -> _Node:
        node = self._not()
        while sign := self._accept("==", "!="):
            node = _equals(node, self._not(), sign == "==")
        return node

    def _not(self) -> _Node:
        if self._accept("!"):
            node = self._not()
            return lambda: not truthy(node())
        return self._properties(self._first())

    def _properties(self, node: _Node) -> _Node:
        while sign := self._accept(".", "["):
            if self._accept("*"):
                node = _every(node)
            elif sign == "[":
                node = _at(node, self._either())
            else:
                kind, name = self._next()
                if kind != "name":
                    raise self._wrong(f"{name!r} is not a name")
                node = _at(node, _constant(name))
            if sign == "[":
                self._need("]")
        return node

    def _first(self) -> _Node:
        if self._accept("("):
            node = self._either()
            self._need(")")
            return node
        kind, token = self._next()
        match kind:
            case "text":
                return _constant(token[1:-1].replace("''", "'"))
            case "number":
                number = int(token, 16) if "x" in token else float(token)
                return _constant(int(number) if number == int(number) else number)
            case "name" if token in _WORDS:
                return _constant(_WORDS[token])
            case "name" if self._accept("("):
                return self._call(token)
            case "name" if token.lower() in self._context:
                return _constant(self._context[token.lower()])
            case "name":
                known = ", ".join(sorted(self._context))
                raise self._wrong(f"unknown context {token!r} (known here: {known})")
        raise self._wrong(f"{token!r} is not a value")

    def _call(self, name: str) -> _Node:
        arguments: list[_Node] = []
        if not self._accept(")"):
            arguments.append(self._either())
            while self._accept(","):
                arguments.append(self._either())
            self._need(")")
        known = name.lower()
        if self._status and known in ("always", *self._status) and not arguments:
            self.uses_status = True
            return _constant(known == "always" or self._status[known])
        counts, function = _FUNCTIONS.get(known, (range(0), None))
        if function is None or len(arguments) not in counts:
            raise self._wrong(f"unknown function {name!r} with {len(arguments)} arguments")
        return _called(function, arguments)


def _constant(it: Any) -> _Node:
    return lambda: it


def _or(left: _Node, right: _Node) -> _Node:
    return lambda: it if truthy(it := left()) else right()


def _and(left: _Node, right: _Node) -> _Node:
    return lambda: right() if truthy(it := left()) else it


def _equals(left: _Node, right: _Node, wanted: bool) -> _Node:
    return lambda: equal(left(), right()) is wanted


def _every(node: _Node) -> _Node:
    return lambda: _all(node())


def _at(node: _Node, key: _Node) -> _Node:
    return lambda: _property(node(), key())


def _called(function: Callable[..., Any], arguments: Sequence[_Node]) -> _Node:
    return lambda: function(*(one() for one in arguments))
