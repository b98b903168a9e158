"""How commands print: data on standard output, warnings on standard error."""

import json
import sys
from typing import Any


def print_json(value: Any) -> None:
    """Print data."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def warn(message: str) -> None:
    """Print a warning."""
    print(f"lynx-pipeline: WARNING: {message}", file=sys.stderr)
