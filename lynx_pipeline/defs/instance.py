"""The Dagster instance of a project: ``dagster.yaml`` at its root, storage under LYNX_HOME.

``dagster.yaml`` names :class:`LynxInstance`, so every command run at the root, the UI and
this package share one history without ``DAGSTER_HOME``. A ``DAGSTER_HOME`` that is set wins.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagster import DagsterInstance
from dagster._core.instance import InstanceRef

from lynx_pipeline.adapters.files import make_folder
from lynx_pipeline.config import load_settings
from lynx_pipeline.errors import BadInput


class LynxInstance(DagsterInstance):
    """A Dagster instance that stores everything under ``LYNX_HOME/dagster``."""

    @classmethod
    def config_schema(cls) -> dict[str, Any]:
        """The settings of this class in ``dagster.yaml``: none."""
        return {}

    @staticmethod
    def config_defaults(base_dir: str) -> Mapping[str, Any]:
        """Dagster's defaults in another folder; ``base_dir`` is a temporary one."""
        folder = make_folder(load_settings().home / "dagster")
        return InstanceRef.config_defaults(str(folder))


@contextmanager
def open_instance() -> Iterator[DagsterInstance]:
    """The instance that Dagster's commands use in this working directory.

    Raises:
        BadInput: the project has no ``dagster.yaml``.
        SystemFailed: its folder cannot be created.
    """
    if os.environ.get("DAGSTER_HOME"):
        with DagsterInstance.get() as instance:
            yield instance
        return
    settings = load_settings()
    if not (settings.root / "dagster.yaml").is_file():
        raise BadInput(
            f"{settings.root}: has no dagster.yaml, which says where Dagster keeps its state. "
            "Restore it."
        )
    folder = make_folder(settings.home / "dagster")
    ref = InstanceRef.from_dir(str(folder), config_dir=str(settings.root))
    with DagsterInstance.from_ref(ref) as instance:
        yield instance
