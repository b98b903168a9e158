"""Somebody else's Dagster project, as ``dg`` lays it out: with an asset, a resource, partitions and
a job of its own. Gates are added to it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dagster import DagsterInstance

from lynx_pipeline_tests.conftest import OURS
from lynx_pipeline_tests.support.commands import Done, run, start

_FILES = {
    "pyproject.toml": """\
[project]
name = "acme"
version = "0.1.0"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "acme"

[tool.dg.cli.telemetry]
enabled = false
""",
    "src/acme/__init__.py": "",
    "src/acme/definitions.py": """\
from pathlib import Path

from dagster import Definitions, definitions, load_from_defs_folder


@definitions
def defs() -> Definitions:
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
""",
    "src/acme/defs/__init__.py": "",
    "src/acme/defs/sales.py": """\
import dagster as dg


class Shop(dg.ConfigurableResource):
    city: str


candidates = dg.DynamicPartitionsDefinition(name="candidates")


@dg.asset(partitions_def=candidates)
def eval_set(context: dg.AssetExecutionContext, shop: Shop) -> None:
    context.log.info(f"{context.partition_key} in {shop.city}")


evaluate = dg.define_asset_job("evaluate", [eval_set], partitions_def=candidates)


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(
        assets=[eval_set], jobs=[evaluate], resources={"shop": Shop(city="Ghent")}
    )
""",
    "home/dagster.yaml": "telemetry: {enabled: false}\nnux: {enabled: false}\n",
}


@dataclass(frozen=True)
class DagsterProject:
    """The project's folder, and further environment variables. The state of Dagster is in ``home``,
    beside its code."""

    root: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def new(cls, root: Path, **variables: str) -> "DagsterProject":
        """A project without a gate."""
        for name, text in _FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return cls(root, variables)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a command."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
        programs = str(Path(sys.executable).parent)
        return {
            **inherited,
            "PATH": f"{programs}{os.pathsep}{inherited.get('PATH', '')}",
            "PYTHONPATH": str(self.root / "src"),
            "DAGSTER_HOME": str(self.root / "home"),
            "COLUMNS": "200",
            "NO_COLOR": "1",
            **self.variables,
        }

    def run(self, *command: str) -> Done:
        """Run a command in the project's folder."""
        return run(command, self.root, self.environ)

    def start(self, *command: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start a command in the project's folder: see :func:`start`."""
        return start(command, self.root, self.environ, log)

    def add_gate(self, name: str, project: str) -> None:
        """Write the ``defs.yaml`` of a gate, as ``dg scaffold defs`` does."""
        file = self.root / "src/acme/defs" / name / "defs.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f"type: lynx_pipeline.component.DeployGate\n\nattributes:\n  name: {name}\n"
            f"  project: '{project}'\n"
        )

    @contextmanager
    def instance(self) -> Iterator[DagsterInstance]:
        """The Dagster instance of the commands that run here."""
        with DagsterInstance.from_config(str(self.root / "home")) as it:
            yield it
