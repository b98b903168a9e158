"""``python -m lynx_pipeline_tests.simulators.act.replacement ACTION``: does what an action does.

act runs it as the only step of a composite action, which passes the inputs and the context.
"""

import json
import os
import sys
from pathlib import Path

from lynx_pipeline_tests.simulators.actions import actions

# Any commit: the workflow's rules check the pins.
_COMMIT = "0" * 40


def main(action: str) -> int:
    """Run the action. Exit code 1: it failed."""
    github = json.loads(os.environ["GITHUB_CONTEXT"])
    inputs = {name: it for name, it in json.loads(os.environ["INPUTS"]).items() if it != ""}
    call = actions.Call(
        inputs=inputs,
        workspace=Path(os.environ["GITHUB_WORKSPACE"]),
        artifacts=Path(os.environ["ARTIFACTS"]),
        attempt=1,
        github=github,
        origin=os.environ["ORIGIN"],
        environ=os.environ,
        digest_mismatch="error",
        log=lambda line: print(line, flush=True),
    )
    try:
        actions.use(f"{action}@{_COMMIT}", call)
    except actions.ActionFailed as failure:
        print(f"::error::{failure}")
        return 1
    if action == "actions/setup-python":
        with Path(os.environ["GITHUB_PATH"]).open("a") as paths:
            paths.write(f"{os.environ.get('PYTHON_BIN', Path(sys.base_prefix) / 'bin')}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
