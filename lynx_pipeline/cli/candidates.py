"""Commands about candidates and the gate: demo, minieval, compare-baseline, request, gate power."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lynx_pipeline.cli.output import print_json, warn
from lynx_pipeline.errors import BadInput

if TYPE_CHECKING:
    from fractions import Fraction

    from lynx_pipeline.domain.release.request import Request
    from lynx_pipeline.reports.report import Report


def demo(arguments: Namespace) -> int:
    import importlib

    from lynx_pipeline.config import load_settings

    settings = load_settings()
    if not (settings.root / "examples/grammar_tutor/demo.py").is_file():
        raise BadInput(
            f"{settings.root} has no examples/grammar_tutor: the demo runs the example project. "
            "Run it in a clone of this repository."
        )
    sys.path.insert(0, str(settings.root))
    importlib.import_module("examples.grammar_tutor.demo").run(settings)
    return 0


def minieval(arguments: Namespace) -> int:
    import os

    from lynx_pipeline.config import EvaluationSettings, NoProject, load_settings, read_env
    from lynx_pipeline.domain.scorers import EXACT
    from lynx_pipeline.evaluation.inputs import read_eval_file
    from lynx_pipeline.evaluation.run import evaluate
    from lynx_pipeline.reports.progress import shown

    eval_file, output = Path(arguments.eval_set).absolute(), Path(arguments.output).absolute()
    hidden = [eval_file.parent, output.parent]
    try:
        settings = load_settings()
    except NoProject:  # a bundle and an eval set are all it takes
        env, options, scorer = read_env(os.environ), EvaluationSettings(), EXACT
    else:
        env, options, scorer = settings.env, settings.evaluation, settings.scorer
        hidden += [settings.root, settings.home]
    with shown(always=arguments.progress) as progress:
        result = evaluate(
            Path(arguments.bundle).absolute(),
            read_eval_file(eval_file, scorer),
            output,
            options,
            run_id=None,
            env=env,
            hidden=hidden,
            warn=warn,
            progress=progress,
        )
    if arguments.json:
        print_json(result.to_json())
    else:
        counts = result.counts
        print(
            f"{counts.correct} of {counts.n} right ({counts.correct / counts.n:.2%}), "
            f"isolation: {result.isolation}. Written: {output}"
        )
    return 0


def compare_baseline(arguments: Namespace) -> int:
    from lynx_pipeline.adapters.files import read_bytes
    from lynx_pipeline.domain.gate.baseline import parse_baseline
    from lynx_pipeline.domain.gate.rule import judge
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
        from lynx_pipeline.reports.verdict_json import verdict_json

        print_json(verdict_json(verdict))
    else:
        from lynx_pipeline.reports.terminal import print_report

        print_report(report)
    if verdict.passed:
        return 0
    names = ", ".join(bucket.name for bucket in verdict.failed)
    print(f"lynx-pipeline: the gate refused, because of: {names}.", file=sys.stderr)
    return 1


def request(arguments: Namespace) -> int:
    import shlex

    from lynx_pipeline.adapters.mlflow_tracking import find_model
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.domain.versioning import check_semver

    settings = load_settings()
    asked = _asked(arguments)
    check_semver(asked.semver, settings.env)
    find_model(settings.tracking_uri, asked.mlflow_run_id, settings.artifact_locations)

    from lynx_pipeline.defs.requests import prepare

    output = Path(arguments.output).absolute() if arguments.output else None
    run_id, semver = asked.mlflow_run_id, asked.semver
    command = ["dagster", *prepare(settings, run_id, semver, output)]
    if arguments.json:
        print_json(
            {"mlflow_run_id": run_id, "semver": semver, "config": command[-1], "command": command}
        )
    else:
        print(f"Request accepted: run {run_id} as {semver}. To run it:")
        print(f"  {shlex.join(command)}")
    return 0


def gate_power(arguments: Namespace) -> int:
    from lynx_pipeline.adapters.files import write_atomic
    from lynx_pipeline.config import load_settings
    from lynx_pipeline.domain.gate import power
    from lynx_pipeline.evaluation.inputs import (
        check_match,
        read_baseline,
        read_eval_file,
        read_eval_set,
    )
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
        write_atomic(Path(arguments.figure).absolute(), figure(result).encode())
    if arguments.json:
        print_json(power_json(result))
    else:
        print_power(result)
    return 0


def _tolerance(text: str) -> "Fraction":
    """A tolerance given by hand, read as strictly as the one in a file."""
    from lynx_pipeline.domain.gate.baseline import read_tolerance
    from lynx_pipeline.domain.strict_json import Fields, exact

    try:
        return read_tolerance(
            Fields({"--tolerance": exact(text)}, "the command line"), "--tolerance"
        )
    except (ValueError, ArithmeticError):
        raise BadInput(f"--tolerance {text!r}: expected a number such as 0.02.") from None


def _write_report(path: Path, report: "Report") -> None:
    from lynx_pipeline.adapters.files import write_atomic

    if path.suffix == ".md":
        from lynx_pipeline.reports.markdown import markdown

        text = markdown(report)
    elif path.suffix == ".html":
        from lynx_pipeline.reports.page import page

        text = page(report)
    else:
        raise BadInput(f"--report {path}: expected a name that ends in .md or .html.")
    write_atomic(path, text.encode())


def _asked(arguments: Namespace) -> "Request":
    from lynx_pipeline.adapters.files import read_bytes
    from lynx_pipeline.domain.release.request import Request, parse_comment

    if arguments.from_comment:
        if arguments.run_id or arguments.semver:
            raise BadInput("give either --from-comment or --run-id and --semver, not both.")
        return parse_comment(read_bytes(Path(arguments.from_comment), "no comment"))
    if not (arguments.run_id and arguments.semver):
        raise BadInput("give --run-id and --semver, or --from-comment.")
    return Request(arguments.run_id, arguments.semver)
