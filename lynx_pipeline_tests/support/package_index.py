"""How uv gets packages on this machine: the package index, and its cache."""

import os
import subprocess
import sys
from pathlib import Path


def index() -> dict[str, str]:
    """pip's package index, since uv doesn't read pip's settings; empty if uv has its own."""
    if any(name.startswith("UV_") and "INDEX" in name for name in os.environ):
        return {}
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {"UV_DEFAULT_INDEX": found} if found else {}


def cache() -> Path:
    """uv's cache, in which the installation of this environment has left its packages."""
    done = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())
