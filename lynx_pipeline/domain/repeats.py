"""Keys that occur more than once among millions of rows, in eight bytes for each key.

A key is remembered as its 64-bit hash. Two different keys with one hash are as good as impossible:
the chance is three in a million for ten million keys. Where it matters, callers compare the keys.
"""

from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import ndarray

    Array = ndarray[Any, Any]

_SHOWN_ROWS = 5


class Keys:
    """One key for each row."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, key: object) -> None:
        """Remember the key of the next row."""
        self._hashes.append(hash(key))

    def repeated(self) -> "Repeated":
        """The keys that occur more than once."""
        import numpy as np

        return _repeated(np.frombuffer(self._hashes, dtype=np.int64).copy())

    def ambiguous(self, other: "Keys") -> "Repeated":
        """The keys that occur with more than one key of ``other``, which has the same rows."""
        import numpy as np

        mine, others = (np.frombuffer(keys._hashes, dtype=np.int64) for keys in (self, other))
        order = np.lexsort((others, mine))
        mine, others = mine[order], others[order]
        new = np.ones(len(mine), dtype=bool)
        new[1:] = (mine[1:] != mine[:-1]) | (others[1:] != others[:-1])
        return _repeated(mine[new])


class Repeated:
    """Keys that occur more than once. ``extra`` is how many rows there are beyond the first of each
    key."""

    def __init__(self, hashes: "Array", extra: int) -> None:
        self._hashes = hashes
        self.extra = extra

    def __contains__(self, key: object) -> bool:
        at = self._hashes.searchsorted(hash(key))
        return bool(at < len(self._hashes) and self._hashes[at] == hash(key))

    def rows(self, keys: Iterable[tuple[object, int]], most: int) -> dict[object, list[int]]:
        """For the first ``most`` repeated keys, the numbers of the first few rows with this key.
        ``keys`` are all keys once more, with their rows' numbers."""
        found: dict[object, list[int]] = {}
        for key, number in keys:
            self.note(key, number, found, most)
        return found

    def note(self, key: object, number: int, found: dict[object, list[int]], most: int) -> None:
        """Add one row to what :meth:`rows` has found so far."""
        if key not in found and (len(found) == most or key not in self):
            return
        rows = found.setdefault(key, [])
        if len(rows) < _SHOWN_ROWS:
            rows.append(number)


def _repeated(hashes: "Array") -> Repeated:
    import numpy as np

    hashes.sort()
    again = hashes[1:][hashes[1:] == hashes[:-1]]
    return Repeated(np.unique(again), len(again))
