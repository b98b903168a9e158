"""For the adapters' tests: git asks nobody and reads no configuration but the tests' own."""

import pytest

from lynx_pipeline_tests.places import GIT_ENV


@pytest.fixture(autouse=True)
def no_git_configuration_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear git's variables, and set those that keep its configuration out."""
    for name, value in GIT_ENV.items():
        monkeypatch.setenv(name, value)
