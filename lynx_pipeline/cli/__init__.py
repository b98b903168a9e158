"""The command line: parse, call, print, exit code. One module per command or group of commands.

Exit codes: 0 done or passed, 1 refused by the gate or by policy, 2 bad input or usage, 3 a system
failed that the command needs.
"""

from lynx_pipeline.cli.main import cli, main

__all__ = ["cli", "main"]
