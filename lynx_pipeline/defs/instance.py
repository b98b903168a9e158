"""The Dagster instance of a project: ``dagster.yaml`` at its root, storage under LYNX_HOME.

``dagster.yaml`` names :class:`LynxInstance`, so every command run at the root, the UI and
this package share one history without ``DAGSTER_HOME``. A ``DAGSTER_HOME`` that is set wins.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import click
from dagster import DagsterError, DagsterInstance
from dagster._check import CheckError
from dagster._core.instance import InstanceRef
from yaml import YAMLError

from lynx_pipeline.adapters import actions
from lynx_pipeline.adapters.files import make_folder
from lynx_pipeline.config import load_project
from lynx_pipeline.defs import DAGSTER_YAML
from lynx_pipeline.domain.text import printable, without_secrets
from lynx_pipeline.errors import BadInput, LynxError, SystemFailed, paragraph


class StartFailed(click.ClickException):
    """The settings are invalid, or the state folder can't be created. Dagster's commands print it
    as one paragraph and exit with the error's code, as they do with errors in their arguments."""

    def __init__(self, error: LynxError) -> None:
        super().__init__(paragraph(error))
        self.error = error
        self.exit_code = error.exit_code  # type: ignore[misc]  # read from the instance

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it like our own commands do."""
        actions.fail(self.message)


class LynxInstance(DagsterInstance):
    """A Dagster instance that stores everything under ``LYNX_HOME/dagster``."""

    @classmethod
    def config_schema(cls) -> dict[str, Any]:
        """The settings of this class in ``dagster.yaml``: none."""
        return {}

    @staticmethod
    def config_defaults(base_dir: str) -> Mapping[str, Any]:
        """Dagster's defaults in another folder; ``base_dir`` is a temporary one.

        Raises:
            StartFailed: the project's settings don't say where.
        """
        try:
            folder = make_folder(load_project().home / "dagster")
        except LynxError as error:
            raise StartFailed(error) from None
        return InstanceRef.config_defaults(str(folder))

    @property
    def python_log_level(self) -> str | None:
        """The level of Dagster's console log, unless ``dagster.yaml`` names another under
        ``python_logs``. Dagster's default is DEBUG, which hides what the steps report among dozens
        of lines."""
        return super().python_log_level or "INFO"


@contextmanager
def open_instance() -> Iterator[DagsterInstance]:
    """The instance that Dagster's commands use in this working directory.

    Raises:
        BadInput: the project has no ``dagster.yaml``, or Dagster can't use it or ``DAGSTER_HOME``.
        SystemFailed: its folder cannot be created, or its storage can't be reached.
    """
    if home := os.environ.get("DAGSTER_HOME"):
        with _usable(
            f"DAGSTER_HOME is {home!r}",
            "Name an existing folder with a valid dagster.yaml, or unset DAGSTER_HOME.",
        ):
            instance = DagsterInstance.get()
    else:
        project = load_project()
        file = project.root / "dagster.yaml"
        if not file.is_file():
            raise BadInput(
                f"{project.root} has no dagster.yaml, which says where Dagster keeps its state. "
                f"Create {file} with this line: {DAGSTER_YAML}"
            )
        folder = make_folder(project.home / "dagster")
        with _usable(str(file), f"Correct it. It needs only this line: {DAGSTER_YAML}"):
            ref = InstanceRef.from_dir(str(folder), config_dir=str(project.root))
            instance = DagsterInstance.from_ref(ref)
    with instance:
        yield instance


@contextmanager
def _usable(where: str, advice: str) -> Iterator[None]:
    """Report what Dagster raises while it opens an instance."""
    try:
        yield
    except StartFailed as error:
        raise error.error from None
    except (LynxError, OSError):
        raise
    except Exception as error:  # of Dagster, YAML, or a storage's library
        reason = printable(without_secrets(" ".join(str(error).split())))[:500].rstrip(".")
        message = f"{where}: Dagster can't use it: {reason}."
        if isinstance(error, DagsterError | CheckError | YAMLError):
            raise BadInput(f"{message} {advice}") from None
        raise SystemFailed(f"{message} Check its storage, then run this again.") from None
