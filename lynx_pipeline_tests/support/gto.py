"""GTO, a model registry on git tags, as a program."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def gto(repository: Path, *arguments: str) -> Any:
    """The output of a command of GTO, as JSON."""
    return json.loads(run_gto(repository, *arguments, "--json"))


def run_gto(repository: Path, *arguments: str) -> bytes:
    """The output of a command of GTO."""
    program = str(Path(sys.executable).with_name("gto"))
    return subprocess.check_output([program, *arguments, "--repo", str(repository)])
