"""The names that ``lynx_pipeline`` offers to other programs."""

import importlib.resources
import subprocess
import sys

import pytest

import lynx_pipeline
from lynx_pipeline import config, errors, registry

HEAVY = {"pydantic", "dagster", "mlflow"}


@pytest.mark.parametrize("name", lynx_pipeline.__all__)
def test_every_public_name_resolves(name: str) -> None:
    """The value is the object of that name in the module that defines it."""
    homes = [module for module in (errors, config, registry) if hasattr(module, name)]
    assert getattr(lynx_pipeline, name) is getattr(homes[0], name)
    assert name in dir(lynx_pipeline)


def test_the_public_names_are_exactly_these() -> None:
    """Removing one breaks other people's programs."""
    assert set(lynx_pipeline.__all__) == {
        *("Registry", "register_pending", "promote", "rollback"),
        *("resolve", "fetch", "history", "verify"),
        *("Settings", "load_settings"),
        *("LynxError", "Refused", "BadInput", "SystemFailed"),
    }


@pytest.mark.parametrize("name", ["Recorded", "from_os_error", "nonsense"])
def test_any_other_name_is_an_attribute_error(name: str) -> None:
    """What one subpackage offers to others is not public by accident."""
    with pytest.raises(AttributeError, match=f"module 'lynx_pipeline' has no attribute '{name}'"):
        getattr(lynx_pipeline, name)


def test_the_import_loads_no_heavy_package() -> None:
    """A star import, which resolves every public name, loads none either."""
    code = "from lynx_pipeline import *; import sys; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not HEAVY & set(result.stdout.split())


def test_the_package_is_marked_as_typed() -> None:
    """Type checkers read the annotations of an installed package only beside this file."""
    assert importlib.resources.files("lynx_pipeline").joinpath("py.typed").is_file()
