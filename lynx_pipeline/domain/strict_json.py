"""Strict JSON: a file has exactly one meaning, or it is refused with an error that names the place.

Refused: bytes that are not UTF-8, a byte-order mark, duplicate keys, NaN and Infinity, lone
surrogates, and texts, numbers or nesting too large to handle. Fractions are read exactly as written
(:class:`~decimal.Decimal`), so that 0.02 is two hundredths and not the nearest double.
Leaves the meaning of the keys to the reader of each format; :class:`Fields` gives their errors one
form: file, key, what was expected, what was found.
"""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import Any, NoReturn

from lynx_pipeline.domain.file_kinds import recognise
from lynx_pipeline.errors import BadInput

JsonObject = dict[str, Any]

# Bytes. A value takes up to 35 times the memory of its text, and 0.2 seconds per MiB.
LONGEST = 4 << 20
# Digits and powers of ten. A double needs 17 and 308; 1e-999999999 would need all memory.
_LONGEST = 400
_MOST = 2**53 - 1


def exact(text: str) -> Decimal:
    """The number as written.

    Raises:
        ValueError: it has too many digits or too large an exponent to calculate with.
    """
    number = Decimal(text)
    if len(text) > _LONGEST or abs(number.adjusted()) > _LONGEST:
        raise ValueError(f"the number {text[:20]}... is too large or too small to work with")
    return number


def parse(raw: bytes, where: str, *, number: Callable[[str], Any] = exact) -> Any:
    """The value in ``raw``. ``number`` converts the text of each fraction.

    Raises:
        BadInput: ``raw`` is not strict JSON. The message starts with ``where``.
    """
    if len(raw) > LONGEST:
        _check_kind(raw, where)
        raise BadInput(f"{where}: has {len(raw)} bytes, expected at most {LONGEST}.")
    try:
        text = raw.decode("utf-8")
        value = _decoder(number).decode(text)
        if "\\u" in text:  # only an escape can produce a lone surrogate
            json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeDecodeError as error:
        _check_kind(raw, where)
        raise BadInput(f"{where}: byte {error.start} is not UTF-8 text.") from None
    except UnicodeEncodeError:
        raise BadInput(
            f"{where}: contains half a surrogate pair, which is not valid text."
        ) from None
    except json.JSONDecodeError as error:
        _check_kind(raw, where)
        # Of one line of a file, ``where`` has the number.
        line = f"line {error.lineno}, " if b"\n" in raw.strip() else ""
        raise BadInput(f"{where}: not JSON: {error.msg} at {line}column {error.colno}.") from None
    except RecursionError:
        raise BadInput(f"{where}: nested too deeply to be read.") from None
    except (ValueError, ArithmeticError) as error:
        raise BadInput(f"{where}: {error}.") from None
    return value


def _check_kind(raw: bytes, where: str) -> None:
    """Name the kind of a file that is not JSON, if its first bytes show it. Only for bytes that
    can't be read, because it takes a while for each of many lines."""
    if kind := recognise(raw):
        raise BadInput(f"{where}: not JSON in UTF-8: {kind.sentence}")


@lru_cache
def _decoder(number: Callable[[str], Any]) -> json.JSONDecoder:
    """Cached, because building a decoder takes as long as reading a line."""
    return json.JSONDecoder(
        parse_float=number, parse_constant=_no_constant, object_pairs_hook=_no_duplicates
    )


def parse_object(raw: bytes, where: str, *, number: Callable[[str], Any] = exact) -> JsonObject:
    """Like :func:`parse`, for a file that must be one JSON object."""
    value = parse(raw, where, number=number)
    if not isinstance(value, dict):
        raise BadInput(f"{where}: expected a JSON object, found {_name(value)}.")
    return value


def canonical(value: Any) -> bytes:
    """RFC 8785 bytes of a value made of dict, list, str, int, float, bool and None.

    Raises:
        BadInput: the value has no canonical form, for example a non-finite float.
    """
    import rfc8785

    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, ValueError) as error:
        raise BadInput(f"no canonical JSON form: {error}.") from None


class Fields:
    """Reads the keys of one object; each error names the file, the key and what was expected."""

    def __init__(self, values: JsonObject, where: str) -> None:
        self.values = values
        self.where = where

    def refuse_unknown(self, allowed: Iterable[str]) -> None:
        """Refuse keys that are not in ``allowed``."""
        allowed = tuple(allowed)
        for key in self.values:
            if key not in allowed:
                self.fail(key, f"one of {', '.join(allowed)}", "an unknown key")

    def text(self, key: str) -> str:
        """A string that is not blank."""
        value = self._present(key)
        if not isinstance(value, str) or not value.strip():
            self.fail(key, "a string that is not empty", _name(value))
        return value

    def texts(self, keys: Iterable[str]) -> dict[str, str]:
        """Like :meth:`text`, for several keys."""
        values = self.values
        return {
            key: value
            if isinstance(value := values.get(key), str) and value.strip()
            else self.text(key)
            for key in keys
        }

    def optional_text(self, key: str) -> str | None:
        """Like :meth:`text`; absent and null are None."""
        return None if self.values.get(key) is None else self.text(key)

    def count(self, key: str, *, least: int = 0) -> int:
        """A whole number, at least ``least`` and small enough that a double holds it exactly."""
        value = self._present(key)
        if not _is_int(value) or not least <= value <= _MOST:
            self.fail(key, f"a whole number, {least} or more", _name(value))
        return int(value)

    def optional_count(self, key: str) -> int | None:
        """Like :meth:`count`; absent is None, null is refused."""
        return self.count(key) if key in self.values else None

    def number(self, key: str) -> float:
        """A number, as the nearest double."""
        value = self._present(key)
        result = float("nan")
        if _is_int(value) or isinstance(value, Decimal):
            with suppress(OverflowError):
                result = float(value)
        if not isfinite(result):
            self.fail(key, "a number", _name(value))
        return result

    def fraction(self, key: str) -> Decimal | int:
        """A number from 0 to 1, exactly as written."""
        value = self._present(key)
        if not (_is_int(value) or isinstance(value, Decimal)) or not 0 <= value <= 1:
            self.fail(key, "a number from 0 to 1", _name(value))
        result: Decimal | int = value
        return result

    def object(self, key: str) -> JsonObject:
        """A JSON object that is not empty."""
        value = self._present(key)
        if not isinstance(value, dict) or not value:
            self.fail(key, "an object that is not empty", _name(value))
        return value

    def fail(self, key: str, expected: str, found: str) -> NoReturn:
        """Raise the error for ``key``."""
        raise BadInput(f"{self.where}: {key!r}: expected {expected}, found {found}.")

    def _present(self, key: str) -> Any:
        if key not in self.values:
            raise BadInput(f"{self.where}: {key!r} is missing.")
        return self.values[key]


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _name(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = str(value) if isinstance(value, Decimal) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> JsonObject:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"duplicate key {key!r:.80} in one object")
            seen.add(key)
    return result
