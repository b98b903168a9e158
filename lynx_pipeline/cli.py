"""The command line: parse, call, print, exit code. Imports wait until a command needs them.

Exit codes: 0 done or passed, 1 refused by the gate or by policy, 2 bad input or usage,
3 a system it needs failed.
"""

import argparse
import atexit
import gc
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lynx_pipeline.errors import BadInput, LynxError

if TYPE_CHECKING:
    from fractions import Fraction

    from lynx_pipeline.domain.ledger import Entry
    from lynx_pipeline.domain.request import Request
    from lynx_pipeline.reports.report import Report

Arguments = argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code."""
    arguments = _parser().parse_args(argv)
    warnings.showwarning = _show_warning
    atexit.register(gc.freeze)  # see lynx_pipeline.definitions
    run: Callable[[Arguments], int] = arguments.run
    try:
        return run(arguments)
    except LynxError as error:
        if arguments.debug:
            raise
        print(f"lynx-pipeline: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 3
    except KeyboardInterrupt:
        print(
            "lynx-pipeline: interrupted. A promotion happened wholly or not at all; running "
            "this again is safe.",
            file=sys.stderr,
        )
        return 3


def demo(arguments: Arguments) -> int:
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.demo import run

    run(load_settings())
    return 0


def minieval(arguments: Arguments) -> int:
    import os

    from lynx_pipeline.config import Asking, NoProject, load_settings, read_env
    from lynx_pipeline.domain.scorers import EXACT
    from lynx_pipeline.flow.data import read_eval_file
    from lynx_pipeline.flow.evaluation import evaluate
    from lynx_pipeline.reports.progress import shown

    eval_file, output = Path(arguments.eval_set).absolute(), Path(arguments.output).absolute()
    hidden = [eval_file.parent, output.parent]
    try:
        settings = load_settings()
    except NoProject:  # a bundle and an eval set are all it takes
        env, asking, scorer = read_env(os.environ), Asking(), EXACT
    else:
        env, asking, scorer = settings.env, settings.asking, settings.scorer
        hidden += [settings.root, settings.home]
    with shown(always=arguments.progress) as progress:
        result = evaluate(
            Path(arguments.bundle).absolute(),
            read_eval_file(eval_file, scorer),
            output,
            asking,
            run_id=None,
            env=env,
            hidden=hidden,
            warn=_warn,
            progress=progress,
        )
    if arguments.json:
        _print_json(result.to_json())
    else:
        counts = result.counts
        print(
            f"{counts.correct} of {counts.n} right ({counts.correct / counts.n:.2%}), "
            f"isolation: {result.isolation}. Written: {output}"
        )
    return 0


def compare_baseline(arguments: Arguments) -> int:
    from lynx_pipeline.adapters.files import read_bytes
    from lynx_pipeline.domain.baseline import parse_baseline
    from lynx_pipeline.domain.gate import judge
    from lynx_pipeline.domain.scores import read_scores
    from lynx_pipeline.domain.strict_json import parse_object

    baseline_file, candidate_file = Path(arguments.baseline), Path(arguments.candidate)
    baseline = parse_baseline(read_bytes(baseline_file, "no baseline"), str(baseline_file))
    if arguments.tolerance is not None:
        wanted = _tolerance(arguments.tolerance)
        if wanted != baseline.tolerance:
            raise BadInput(
                f"--tolerance {arguments.tolerance} differs from the tolerance_pp of "
                f"{baseline_file}, {float(baseline.tolerance):g}. The tolerance is part of the "
                "committed baseline; change it there."
            )
    raw = read_bytes(candidate_file, "no candidate evaluation")
    candidate = read_scores(parse_object(raw, str(candidate_file)), str(candidate_file))
    verdict = judge(baseline, candidate)
    from lynx_pipeline.reports.report import Report

    report = Report(verdict)
    if arguments.report:
        _write_report(Path(arguments.report).absolute(), report)
    if arguments.json:
        from lynx_pipeline.reports.data import verdict_json

        _print_json(verdict_json(verdict))
    else:
        from lynx_pipeline.reports.terminal import print_report

        print_report(report)
    if verdict.passed:
        return 0
    names = ", ".join(bucket.name for bucket in verdict.failed)
    print(f"lynx-pipeline: the gate refused, because of: {names}.", file=sys.stderr)
    return 1


def request(arguments: Arguments) -> int:
    import shlex

    from lynx_pipeline.adapters.files import write_whole
    from lynx_pipeline.adapters.mlflow_tracking import find_model
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.domain.versioning import check_semver

    settings = load_settings()
    asked = _asked(arguments)
    check_semver(asked.semver, settings.env)
    find_model(settings.tracking_uri, asked.mlflow_run_id)
    default = settings.home / "requests" / f"{asked.mlflow_run_id}.yaml"
    output = Path(arguments.output).absolute() if arguments.output else default
    config = {"ops": {"promotion_decision": {"config": {"semver": asked.semver}}}}
    write_whole(output, (json.dumps(config, indent=2) + "\n").encode())

    from lynx_pipeline.defs.instance import add_candidate, launch_command

    add_candidate(asked.mlflow_run_id)
    command = ["dagster", *launch_command(asked.mlflow_run_id, asked.semver, output)]
    if arguments.json:
        run_id, semver = asked.mlflow_run_id, asked.semver
        _print_json(
            {"mlflow_run_id": run_id, "semver": semver, "config": str(output), "command": command}
        )
    else:
        print(f"Request accepted: run {asked.mlflow_run_id} as {asked.semver}. To run it:")
        print(f"  {shlex.join(command)}")
    return 0


def gate_power(arguments: Arguments) -> int:
    from lynx_pipeline.adapters.files import write_whole
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.domain import power
    from lynx_pipeline.flow.data import check_match, read_baseline, read_eval_file, read_eval_set
    from lynx_pipeline.reports.power import figure, power_json, print_power

    if arguments.eval_set and arguments.baseline:
        baseline = read_baseline(Path(arguments.baseline))
        eval_set = read_eval_file(Path(arguments.eval_set), baseline.scorer)
    else:
        settings = load_settings()
        baseline = read_baseline(Path(arguments.baseline or settings.baseline))
        chosen = arguments.eval_set
        eval_set = (
            read_eval_file(Path(chosen), baseline.scorer) if chosen else read_eval_set(settings)
        )
    check_match(eval_set, baseline)
    tolerance = baseline.tolerance
    if arguments.tolerance is not None:
        tolerance = _tolerance(arguments.tolerance)
    cells = power.cells_of(eval_set, list(baseline.buckets))
    result = power.gate_power(cells, baseline.buckets, tolerance, drops=power.DROPS)
    if arguments.figure:
        write_whole(Path(arguments.figure).absolute(), figure(result).encode())
    if arguments.json:
        _print_json(power_json(result))
    else:
        print_power(result)
    return 0


def baseline_propose(arguments: Arguments) -> int:
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.flow.baseline import propose, reference_file

    settings = load_settings()
    evaluation = Path(arguments.from_eval).absolute()
    floors = propose(settings, evaluation, arguments.justification)
    for floor in floors:
        print(f"  {floor.text}")
    reference = reference_file(settings)
    print(
        f"{len(floors)} floors change. Review and commit {settings.baseline.name}, "
        f"{reference.name}.dvc and what was pushed to the DVC remote."
    )
    return 0


def baseline_check(arguments: Arguments) -> int:
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.domain.gate import points
    from lynx_pipeline.flow.baseline import check

    settings = load_settings()
    change = check(settings, arguments.base)
    if not change.changed:
        print(f"{settings.baseline.name} is as at {arguments.base}.")
    for floor in change.floors:
        print(f"  {floor.text}")
    for name, drop in sorted(change.drift.items(), key=lambda pair: pair[1]):
        if -drop > change.tolerance:
            _warn(
                f"{name}: the drops accepted since the oldest baseline add up to {points(drop)} "
                "points, more than the gate lets one candidate fall."
            )
    for objection in change.objections:
        print(f"lynx-pipeline: {settings.baseline.name}: refused: {objection}", file=sys.stderr)
    if change.objections:
        return 1
    if change.changed:
        print(f"{settings.baseline.name}: the change is justified and its numbers are supported.")
    return 0


def registry_register(arguments: Arguments) -> int:
    from lynx_pipeline import registry

    warnings.simplefilter("always", registry.NotTheCIPath)
    _print_entry(registry.register_pending(arguments.run_id), arguments)
    return 0


def registry_promote(arguments: Arguments) -> int:
    from lynx_pipeline import registry

    warnings.simplefilter("always", registry.NotTheCIPath)
    evidence = Path(arguments.evidence).absolute() if arguments.evidence else None
    entry = registry.promote(arguments.sha, arguments.semver, evidence=evidence)
    _mirror(entry)
    _print_entry(entry, arguments)
    return 0


def registry_rollback(arguments: Arguments) -> int:
    from lynx_pipeline import registry

    entry = registry.rollback(arguments.semver)
    _mirror(entry)
    _print_entry(entry, arguments)
    return 0


def registry_list(arguments: Arguments) -> int:
    from lynx_pipeline import registry
    from lynx_pipeline.domain.versioning import Env

    entries = list(registry.history(Env(arguments.env) if arguments.env else None))
    if arguments.json:
        _print_json([entry.to_json() for entry in entries])
    else:
        from lynx_pipeline.reports.audit import entry_line

        for entry in entries:
            print(entry_line(entry))
    return 0


def registry_show(arguments: Arguments) -> int:
    from lynx_pipeline import registry

    found = [e.to_json() for e in registry.history() if e.fact.semver == arguments.version]
    if not found:
        from lynx_pipeline.errors import Refused

        raise Refused(f"no entry names {arguments.version!r}. 'registry list' shows all.")
    _print_json(found)
    return 0


def registry_resolve(arguments: Arguments) -> int:
    from dataclasses import asdict

    from lynx_pipeline import registry

    resolved = registry.resolve(arguments.version)
    if arguments.json:
        _print_json(asdict(resolved))
    else:
        for key, value in asdict(resolved).items():
            print(f"{key}: {value}")
    return 0


def registry_verify(arguments: Arguments) -> int:
    from lynx_pipeline import registry

    ledger = registry.verify()
    broken = registry.broken_rules(ledger)
    for entry, reason in broken:
        print(f"lynx-pipeline: line {entry.seq} counts for nothing: {reason}", file=sys.stderr)
    if broken:
        return 1
    torn = f", and {ledger.torn} uncommitted bytes that will be dropped" if ledger.torn else ""
    print(f"The ledger is whole: {len(ledger.entries)} entries, {ledger.size} bytes{torn}.")
    return 0


def audit(arguments: Arguments) -> int:
    from lynx_pipeline import registry
    from lynx_pipeline.reports.audit import audit_json, print_audit

    result = registry.audit(arguments.version)
    if arguments.json:
        _print_json(audit_json(result))
    else:
        print_audit(result)
    return 1 if result.findings else 0


def _mirror(done: "Entry") -> None:
    """Let MLflow's alias follow. What is in production is the registry's to say, so a failure
    here is told and nothing more."""
    from lynx_pipeline import registry
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.flow.mirror import mirror

    settings = load_settings()
    now = registry.latest(settings=settings).fact.semver
    if now != done.fact.semver:
        _warn(f"{done.fact.semver} was promoted before and is not in force; {now} is.")
    try:
        mirror(settings, lambda: registry.latest(settings=settings).fact)
    except LynxError as error:
        _warn(
            f"the registry is changed, MLflow's alias is not: {error} It follows with the next "
            "promotion or rollback, and whenever production_alias is materialized."
        )


def _tolerance(text: str) -> "Fraction":
    """A tolerance given by hand, read as strictly as the one in a file."""
    from lynx_pipeline.domain.baseline import read_tolerance
    from lynx_pipeline.domain.strict_json import Fields, exact

    try:
        return read_tolerance(
            Fields({"--tolerance": exact(text)}, "the command line"), "--tolerance"
        )
    except (ValueError, ArithmeticError):
        raise BadInput(f"--tolerance {text!r}: expected a number such as 0.02.") from None


def _write_report(path: Path, report: "Report") -> None:
    from lynx_pipeline.adapters.files import write_whole

    if path.suffix == ".md":
        from lynx_pipeline.reports.markdown import markdown

        text = markdown(report)
    elif path.suffix == ".html":
        from lynx_pipeline.reports.page import page

        text = page(report)
    else:
        raise BadInput(f"--report {path}: expected a name that ends in .md or .html.")
    write_whole(path, text.encode())


def _asked(arguments: Arguments) -> "Request":
    from lynx_pipeline.adapters.files import read_bytes
    from lynx_pipeline.domain.request import Request, parse_comment

    if arguments.from_comment:
        if arguments.run_id or arguments.semver:
            raise BadInput("give either --from-comment or --run-id and --semver, not both.")
        return parse_comment(read_bytes(Path(arguments.from_comment), "no comment"))
    if not (arguments.run_id and arguments.semver):
        raise BadInput("give --run-id and --semver, or --from-comment.")
    return Request(arguments.run_id, arguments.semver)


def _print_entry(entry: "Entry", arguments: Arguments) -> None:
    if arguments.json:
        _print_json(entry.to_json())
    else:
        from lynx_pipeline.reports.audit import entry_line

        print(entry_line(entry))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _warn(message: str) -> None:
    print(f"lynx-pipeline: WARNING: {message}", file=sys.stderr)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _warn(str(message))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lynx-pipeline", description="A deploy gate for models.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        parent: Any, name: str, run: Callable[[Arguments], int], text: str, *, data: bool = True
    ) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = parent.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        if data:
            added.add_argument("--json", action="store_true", help="print the result as JSON")
        return added

    command(
        commands,
        "demo",
        demo,
        "train two tutors, promote the good one, refuse the regressed one",
        data=False,
    )

    add = command(commands, "minieval", minieval, "evaluate a bundle")
    add.add_argument("--bundle", required=True, metavar="DIR", help="an MLflow model directory")
    add.add_argument("--eval-set", required=True, metavar="FILE", help="a bucketed JSONL eval set")
    add.add_argument("--output", required=True, metavar="FILE", help="the candidate eval to write")
    add.add_argument("--progress", action="store_true", help="lines where there is no terminal")

    add = command(commands, "compare-baseline", compare_baseline, "the gate on two files")
    add.add_argument("--candidate", required=True, metavar="FILE", help="candidate_eval.json")
    add.add_argument("--baseline", required=True, metavar="FILE", help="eval_baseline.json")
    add.add_argument("--tolerance", metavar="SHARE", help="must equal the baseline's")
    add.add_argument("--report", metavar="FILE.md", help="write it as Markdown, or HTML by .html")

    about = "what the gate can and cannot see"
    group = commands.add_parser("gate", help=about, description=about)
    gate = group.add_subparsers(required=True, metavar="COMMAND")
    add = command(gate, "power", gate_power, "how often it refuses an equal, what it catches")
    add.add_argument("--eval-set", metavar="FILE", help="default: the project's")
    add.add_argument("--baseline", metavar="FILE", help="default: the project's")
    add.add_argument("--tolerance", metavar="SHARE", help="try another; 0.02 is two points")
    add.add_argument("--figure", metavar="FILE.svg", help="write the operating characteristic")

    add = command(commands, "request", request, "validate a release request and prepare its run")
    add.add_argument("--run-id", metavar="ID", help="the candidate's MLflow run")
    add.add_argument("--semver", metavar="V", help="the version to promote under")
    add.add_argument("--from-comment", metavar="FILE", help="read both out of untrusted text")
    add.add_argument("--output", metavar="FILE", help="where to write the run config")

    about = "the committed floors"
    group = commands.add_parser("baseline", help=about, description=about)
    baseline = group.add_subparsers(required=True, metavar="COMMAND")
    add = command(baseline, "propose", baseline_propose, "write new floors", data=False)
    add.add_argument("--from", dest="from_eval", required=True, metavar="candidate_eval.json")
    add.add_argument("--justification", required=True, metavar="TEXT")
    add = command(baseline, "check", baseline_check, "fail a change that is silent", data=False)
    add.add_argument("--base", required=True, metavar="GIT_REF", help="what it is compared with")

    about = "the append-only registry"
    group = commands.add_parser("registry", help=about, description=about)
    registry = group.add_subparsers(required=True, metavar="COMMAND")
    add = command(registry, "register", registry_register, "record a run's bundle (dev only)")
    add.add_argument("run_id", metavar="RUN_ID")
    add = command(registry, "promote", registry_promote, "promote a bundle")
    add.add_argument("sha", metavar="SHA", help="its canonical sha")
    add.add_argument("semver", metavar="SEMVER")
    add.add_argument("--evidence", metavar="DIR", help="the evidence to judge; dev may do without")
    add = command(registry, "rollback", registry_rollback, "point latest at an earlier version")
    add.add_argument("semver", metavar="SEMVER")
    add = command(registry, "list", registry_list, "all entries, oldest first")
    add.add_argument("--env", choices=("dev", "prod"), help="only those of one environment")
    add = command(registry, "show", registry_show, "every entry about a version, as JSON")
    add.add_argument("version", metavar="VERSION")
    add = command(registry, "resolve", registry_resolve, "what a version names")
    add.add_argument("version", metavar="VERSION", nargs="?", default="latest")
    command(registry, "verify", registry_verify, "prove the ledger's chain", data=False)

    add = command(commands, "audit", audit, "a version's story, its verdict worked out again")
    add.add_argument("version", metavar="VERSION")
    return parser
