"""A deploy gate for machine-learning models, as a Dagster asset pipeline.

The eval set (DVC) and the committed baseline (git) define what is good enough. The candidate's
bundle comes from MLflow and is evaluated on the eval set, in isolation. The gate compares the
accuracy of every bucket with the baseline. Only a candidate that passes is promoted, and the
registry computes that verdict again before it changes.

The names in ``__all__`` are the public API. They are imported on first use, so that
``import lynx_pipeline`` stays cheap.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lynx_pipeline.config import Settings, load_settings
    from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed
    from lynx_pipeline.registry import (
        Registry,
        fetch,
        history,
        promote,
        register_pending,
        resolve,
        rollback,
        verify,
    )

__all__ = [
    "BadInput",
    "LynxError",
    "Refused",
    "Registry",
    "Settings",
    "SystemFailed",
    "fetch",
    "history",
    "load_settings",
    "promote",
    "register_pending",
    "resolve",
    "rollback",
    "verify",
]

if not TYPE_CHECKING:  # a type checker would accept any name because of __getattr__

    def __getattr__(name: str) -> object:
        if name in __all__:
            for room in ("errors", "config", "registry"):
                module = importlib.import_module(f"{__name__}.{room}")
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
