"""The pipeline and the policy that the page "On GitLab" has to copy."""

import re
from typing import Any

import yaml

from lynx_pipeline_tests.support import REPO


def block(language: str) -> str:
    """The page's block in this language."""
    page = (REPO / "docs/gitlab.md").read_text()
    found = re.search(rf"(?ms)^   ```{language}\n(.*?)^   ```$", page)
    assert found is not None
    return "\n".join(line[3:] for line in found[1].splitlines())


def pipeline() -> dict[str, Any]:
    """The jobs, after the document with the inputs."""
    _, found = yaml.safe_load_all(block("yaml"))
    assert isinstance(found, dict)
    return found
