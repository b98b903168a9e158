"""The command line: parse, call, print, exit code. Imports wait until a command needs them.

Exit codes: 0 done or passed, 1 refused by the gate or by policy, 2 bad input or usage,
3 a system it needs failed.
"""

import argparse
import atexit
import gc
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from lynx_pipeline.adapters import actions
from lynx_pipeline.cli import baselines, candidates, ci, ledger
from lynx_pipeline.cli.output import warn
from lynx_pipeline.errors import LynxError, from_os_error


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code."""
    arguments = command_line().parse_args(argv)
    warnings.showwarning = lambda message, *_, **__: warn(str(message))
    atexit.register(gc.freeze)  # see lynx_pipeline.definitions
    try:
        return _exit_code(arguments)
    except Exception:  # a bug; let through, it would exit with 1, which says refused
        _print_traceback()
        return 3


def _exit_code(arguments: argparse.Namespace) -> int:
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except BrokenPipeError:
        sys.stderr.close()
        return 3
    except (LynxError, OSError) as error:
        if arguments.debug:
            _print_traceback()
        told = error if isinstance(error, LynxError) else from_os_error(error)
        actions.fail(str(told))
        return told.exit_code
    except KeyboardInterrupt:
        actions.fail(
            "interrupted. A promotion happened wholly or not at all; running this again is safe."
        )
        return 3


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()


def command_line() -> argparse.ArgumentParser:
    """All commands."""
    parser = argparse.ArgumentParser(prog="lynx-pipeline", description="A deploy gate for models.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        parent: Any,
        name: str,
        run: Callable[[argparse.Namespace], int],
        text: str,
        *,
        data: bool = True,
    ) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = parent.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        if data:
            added.add_argument("--json", action="store_true", help="print the result as JSON")
        return added

    command(
        commands,
        "demo",
        candidates.demo,
        "train two tutors, promote the good one, refuse the regressed one",
        data=False,
    )

    add = command(commands, "minieval", candidates.minieval, "evaluate a bundle")
    add.add_argument("--bundle", required=True, metavar="DIR", help="an MLflow model directory")
    add.add_argument("--eval-set", required=True, metavar="FILE", help="a bucketed JSONL eval set")
    add.add_argument("--output", required=True, metavar="FILE", help="the candidate eval to write")
    add.add_argument("--progress", action="store_true", help="lines where there is no terminal")

    add = command(
        commands, "compare-baseline", candidates.compare_baseline, "the gate on two files"
    )
    add.add_argument("--candidate", required=True, metavar="FILE", help="candidate_eval.json")
    add.add_argument("--baseline", required=True, metavar="FILE", help="eval_baseline.json")
    add.add_argument("--tolerance", metavar="SHARE", help="must equal the baseline's")
    add.add_argument("--report", metavar="FILE.md", help="write it as Markdown, or HTML by .html")

    about = "what the gate can and cannot see"
    group = commands.add_parser("gate", help=about, description=about)
    gate = group.add_subparsers(required=True, metavar="COMMAND")
    add = command(
        gate, "power", candidates.gate_power, "how often it refuses an equal, what it catches"
    )
    add.add_argument("--eval-set", metavar="FILE", help="default: the project's")
    add.add_argument("--baseline", metavar="FILE", help="default: the project's")
    add.add_argument("--tolerance", metavar="SHARE", help="try another; 0.02 is two points")
    add.add_argument("--figure", metavar="FILE.svg", help="write the operating characteristic")

    add = command(
        commands, "request", candidates.request, "validate a release request and prepare its run"
    )
    add.add_argument("--run-id", metavar="ID", help="the candidate's MLflow run")
    add.add_argument("--semver", metavar="V", help="the version to promote under")
    add.add_argument("--from-comment", metavar="FILE", help="read both out of untrusted text")
    add.add_argument("--output", metavar="FILE", help="where to write the run config")

    about = "the committed floors"
    group = commands.add_parser("baseline", help=about, description=about)
    baseline = group.add_subparsers(required=True, metavar="COMMAND")
    add = command(baseline, "propose", baselines.baseline_propose, "write new floors", data=False)
    add.add_argument("--from", dest="from_eval", required=True, metavar="candidate_eval.json")
    add.add_argument("--justification", required=True, metavar="TEXT")
    add = command(
        baseline, "check", baselines.baseline_check, "fail a change that is silent", data=False
    )
    add.add_argument("--base", required=True, metavar="GIT_REF", help="what it is compared with")

    about = "the append-only registry"
    group = commands.add_parser("registry", help=about, description=about)
    registry = group.add_subparsers(required=True, metavar="COMMAND")
    add = command(
        registry, "register", ledger.registry_register, "record a run's bundle (dev only)"
    )
    add.add_argument("run_id", metavar="RUN_ID")
    add = command(registry, "promote", ledger.registry_promote, "promote a bundle")
    add.add_argument("sha", metavar="SHA", help="its canonical sha")
    add.add_argument("semver", metavar="SEMVER")
    add.add_argument("--evidence", metavar="DIR", help="the evidence to judge; dev may do without")
    add = command(
        registry, "rollback", ledger.registry_rollback, "point latest at an earlier version"
    )
    add.add_argument("semver", metavar="SEMVER")
    add = command(registry, "list", ledger.registry_list, "all entries, oldest first")
    add.add_argument("--env", choices=("dev", "prod"), help="only those of one environment")
    add = command(registry, "show", ledger.registry_show, "every entry about a version, as JSON")
    add.add_argument("version", metavar="VERSION")
    add = command(registry, "resolve", ledger.registry_resolve, "what a version names")
    add.add_argument("version", metavar="VERSION", nargs="?", default="latest")
    command(registry, "verify", ledger.registry_verify, "prove the ledger's chain", data=False)

    add = command(commands, "announce", ledger.announce, "tell the channels of a promotion")
    add.add_argument("version", metavar="VERSION")

    about = "the steps of the deploy workflow"
    group = commands.add_parser("ci", help=about, description=about)
    steps = group.add_subparsers(required=True, metavar="COMMAND")
    command(steps, "request", ci.request, "read the request, fetch its candidate", data=False)
    add = command(steps, "prepare", ci.prepare, "let Dagster know a candidate", data=False)
    add.add_argument("run_id", metavar="RUN_ID")
    add.add_argument("--output", required=True, metavar="FILE", help="the run config to write")
    add = command(steps, "outcome", ci.outcome, "how the evaluation ended", data=False)
    add.add_argument("run_id", metavar="RUN_ID")
    add = command(steps, "promote", ci.promote, "promote what is still asked for")
    add.add_argument("--pull-request", required=True, type=int, metavar="NUMBER")
    add.add_argument("--comment", required=True, type=int, metavar="ID", help="that asks for it")
    add.add_argument("--run-id", required=True, metavar="ID")
    add.add_argument("--semver", required=True, metavar="V")
    add.add_argument("--sha", required=True, metavar="SHA", help="the bundle's canonical sha")
    add.add_argument("--evidence", required=True, metavar="DIR")
    add.add_argument("--evidence-sha256", required=True, metavar="HEX", help="of its evaluation")
    add = command(steps, "report", ci.report, "tell the pull request how it ended", data=False)
    add.add_argument("--evidence", required=True, metavar="DIR", help="if it came to that")
    add = command(steps, "approved", ci.approved, "fail an unapproved baseline", data=False)
    add.add_argument("--base", required=True, metavar="GIT_REF", help="what it is compared with")

    add = command(
        commands, "audit", ledger.audit_version, "a version's story, its verdict worked out again"
    )
    add.add_argument("version", metavar="VERSION")
    return parser
