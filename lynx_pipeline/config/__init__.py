"""Settings: ``[tool.lynx_pipeline]`` of the project's ``pyproject.toml``, and the environment.

* :mod:`~lynx_pipeline.config.settings`: the values that the rest of the package works with;
* :mod:`~lynx_pipeline.config.schema`: what the file may contain;
* :mod:`~lynx_pipeline.config.checks`: what its values may be;
* :mod:`~lynx_pipeline.config.parse`: checks its tables, and reports what is wrong with them;
* :mod:`~lynx_pipeline.config.models`: takes several models of one project apart;
* :mod:`~lynx_pipeline.config.load`: finds the file, reads it, and applies the environment.
"""

from lynx_pipeline.config.load import (
    NoProject,
    Project,
    find_settings,
    load_committed,
    load_each,
    load_each_committed,
    load_model,
    load_project,
    load_settings,
    read_env,
)
from lynx_pipeline.config.models import gate_name
from lynx_pipeline.config.settings import (
    BLOCKING,
    ENGINES,
    ENV_MANAGERS,
    LOCAL,
    RAY,
    EvaluationSettings,
    GitRemote,
    Limits,
    Settings,
)

__all__ = [
    "BLOCKING",
    "ENGINES",
    "ENV_MANAGERS",
    "LOCAL",
    "RAY",
    "EvaluationSettings",
    "GitRemote",
    "Limits",
    "NoProject",
    "Project",
    "Settings",
    "find_settings",
    "gate_name",
    "load_committed",
    "load_each",
    "load_each_committed",
    "load_model",
    "load_project",
    "load_settings",
    "read_env",
]
