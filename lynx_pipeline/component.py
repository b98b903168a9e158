"""The Dagster component: adds the gate of a project to another Dagster project, by ``defs.yaml``.

``dg`` finds it through the package's entry point. Listing components imports this module in every
environment that has Dagster, also beside the light client, so what builds the definitions is
imported when it is needed.
"""

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated

import dagster as dg
from dagster.components.component_scaffolding import scaffold_component
from pydantic import BaseModel, Field

from lynx_pipeline.config import NoProject, Settings, load_settings
from lynx_pipeline.config.settings import TABLE
from lynx_pipeline.defs.gate import GATE_NAME
from lynx_pipeline.domain.text import GATE_VARIABLE
from lynx_pipeline.errors import BadInput, missing_package

_DAGSTER_PROJECT = "{{ context.project_root }}"


class ScaffoldOptions(BaseModel):
    """The options of ``dg scaffold defs``."""

    project: str = Field(
        default="",
        description=f"The folder with the pyproject.toml that has the table [{TABLE}]. Default: "
        "the Dagster project's own folder.",
    )
    name: str = Field(default="", description="The gate's name. Default: its folder's name.")


class GateScaffolder(dg.Scaffolder[ScaffoldOptions]):
    """Writes the ``defs.yaml`` of a gate."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldOptions]:
        """The options."""
        return ScaffoldOptions

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldOptions]) -> None:
        """Write it. A project's path is written relative to the Dagster project's folder."""
        project, root = request.params.project, request.project_root
        folder = _DAGSTER_PROJECT
        if project and root is None:
            folder = str(Path(project).absolute())
        elif project and (relative := os.path.relpath(project, root)) != ".":
            folder = f"{_DAGSTER_PROJECT}/{relative}"
        name = request.params.name or re.sub(r"\W", "_", request.target_path.name, flags=re.ASCII)
        scaffold_component(request, {"name": name, "project": folder})


@dg.scaffold_with(GateScaffolder)
class DeployGate(dg.Component, dg.Model, dg.Resolvable):
    """A deploy gate for a model: evaluates candidates from MLflow, compares each bucket of the eval
    set with the committed baseline, and promotes or refuses.

    All rules come from the settings of the project that it names; nothing here can change them.
    """

    name: Annotated[str, Field(pattern=f"^{GATE_NAME}$")] = Field(
        description="The first part of the gate's asset keys, and the prefix of its jobs, sensors, "
        "schedule and partitions. Letters, digits and underscores."
    )
    project: str = Field(
        description=f"The folder with the pyproject.toml that has the table [{TABLE}]: absolute, "
        "or relative to this file.",
        examples=[f"{_DAGSTER_PROJECT}/models/tutor"],
    )
    project_model: str = Field(
        default="", description="Which of the project's models, if the project has several."
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The gate's definitions.

        Raises:
            BadInput: there are no valid settings at ``project``, another gate has this name, or the
                extra ``gate`` is not installed.
        """
        _check_name_is_unique(self.name, context)
        settings = partial(
            _settings, (context.path / self.project).resolve(), self.name, self.project_model
        )
        settings()  # report now what is wrong with them; each step reads them again
        try:
            from lynx_pipeline.defs.build import build_definitions
        except ModuleNotFoundError as error:
            raise missing_package(error) or error from None
        return build_definitions(settings, self.name)


def _check_name_is_unique(name: str, context: dg.ComponentLoadContext) -> None:
    """Dagster itself would only report a duplicate asset key.

    Raises:
        BadInput: another gate of the Dagster project has the name, too.
    """
    tree = context.component_tree
    if not isinstance(tree.defs_module, ModuleType):  # Dagster's context for unit tests has none
        return
    gates = tree.get_all_components(DeployGate)
    if (count := sum(it.name == name for it in gates)) > 1:
        raise BadInput(
            f"{count} gates are named {name!r}: their assets and jobs would have the same names. "
            "Give each its own 'name' in its defs.yaml."
        )


def _settings(project: Path, name: str, model: str = "") -> Settings:
    """The settings of one model of the project in exactly this folder. With ``LYNX_HOME``, the gate
    keeps its state in a subfolder of it, because the variable is the same for all gates of a
    process.

    Raises:
        BadInput: there are none, or they are invalid.
    """
    try:
        settings = load_settings(project, {**_environ(name), GATE_VARIABLE: model})
    except NoProject:
        settings = None
    if settings is None or settings.root != project:
        raise BadInput(
            f"gate {name!r}: {project / 'pyproject.toml'} does not exist or has no table "
            f"[{TABLE}]. Correct 'project' in the gate's defs.yaml (a relative path starts at "
            "the folder of that file), or run 'lynx-pipeline init' in the model's project."
        )
    return settings


def _environ(name: str) -> Mapping[str, str]:
    home = os.environ.get("LYNX_HOME", "")
    return {**os.environ, "LYNX_HOME": str(Path(home) / name)} if home.strip() else os.environ
