"""A small process for tests that fork often.

A pytest worker has imported everything. Forking it takes longer than what most forks then do.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


@cache
def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def in_small_process(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call ``function`` in a process that has imported only what it needs; its result or error."""
    return _pool().submit(function, *args, **kwargs).result()
