"""The main job on real input: two tutors trained here, one promoted, one refused.

Everything goes the way a team's candidates go: trained from the versioned corpus, logged to
MLflow, requested, and run by Dagster in a process of its own. Run again, it adds to the same
state; a version that already names another bundle is left alone and the next one is taken.
"""

import shlex
import subprocess
import sys
from dataclasses import dataclass, replace

from examples.grammar_tutor.configs import CANDIDATE, REGRESSED, TrainConfig
from examples.grammar_tutor.train import train_and_log
from lynx_pipeline.adapters import mlflow_tracking
from lynx_pipeline.adapters.files import write_atomic
from lynx_pipeline.config import Settings
from lynx_pipeline.defs.requests import prepare
from lynx_pipeline.domain.eval_set import bucket_sizes
from lynx_pipeline.domain.release.request import LABEL
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import Refused, SystemFailed
from lynx_pipeline.evaluation.candidate import SEMVER_TAG, candidate, fetch
from lynx_pipeline.evaluation.inputs import matched_inputs
from lynx_pipeline.evaluation.judgement import judge_evidence
from lynx_pipeline.registry import Registry
from lynx_pipeline.reports.report import PAGE, build_report
from lynx_pipeline.reports.terminal import print_report


@dataclass(frozen=True, slots=True)
class Tutor:
    """One trained tutor on its way: its run and the version asked for."""

    name: str
    run_id: str
    semver: str


def run(settings: Settings) -> None:
    """Run the demonstration and print what happens.

    Raises:
        Refused: this is ``prod``, where nothing is for show.
        SystemFailed: a step did not end the way it has to.
    """
    if settings.env is Env.PROD:
        raise Refused("the demo trains and promotes tutors for show; unset LYNX_ENV to run it.")
    _say("The eval set and the committed baseline")
    eval_set, baseline = matched_inputs(settings)
    print(
        f"{len(eval_set)} questions in {len(bucket_sizes(eval_set))} buckets; a bucket may "
        f"fall {float(baseline.tolerance * 100):g} points below its baseline, not more."
    )

    _say("A good tutor, trained from the whole corpus")
    parent = baseline.baseline_sha
    good = _train(settings, replace(CANDIDATE, parent_sha=parent), "v0.1.0-dev")
    _launch(settings, good, expected=0)
    print(f"\nPromoted {good.semver}. A serving process reads:")
    registry = Registry.open(settings)
    resolved = registry.resolve(good.semver)
    print(f"  {resolved.semver} -> {resolved.artifact_uri}, sha {resolved.canonical_sha[:12]}")

    _say("A regressed tutor: a cleaning step dropped the rare word forms from its corpus")
    bad = _train(settings, replace(REGRESSED, parent_sha=parent), "v0.1.1-dev")
    before = registry.verify()
    _launch(settings, bad, expected=1)
    if registry.verify() != before:
        raise SystemFailed("the refusal changed the registry. That must not happen.")
    print(f"\nRefused {bad.semver}. The registry is what it was before.")

    _say("Look around")
    _print_next_steps()


def _train(settings: Settings, config: TrainConfig, semver: str) -> Tutor:
    run_id = train_and_log(settings, config, {LABEL: "true"})
    semver = _free_version(settings, run_id, semver)
    mlflow_tracking.tag_run(settings.tracking_uri, run_id, SEMVER_TAG, semver)
    print(f"Trained {config.name!r}, logged as MLflow run {run_id}, asking for {semver}.")
    return Tutor(config.name, run_id, semver)


def _free_version(settings: Settings, run_id: str, semver: str) -> str:
    """``semver``, or the next ``-dev.N`` if it names another bundle already."""
    sha = fetch(settings, run_id).canonical_sha
    taken = {
        entry.fact.semver
        for entry in Registry.open(settings).history()
        if entry.fact.canonical_sha != sha
    }
    choices = [semver, *(f"{semver}.{n}" for n in range(1, len(taken) + 2))]
    return next(choice for choice in choices if choice not in taken)


def _launch(settings: Settings, tutor: Tutor, *, expected: int) -> None:
    """Run the job as CI does, and print the verdict."""
    arguments = prepare(settings, tutor.run_id, tutor.semver)
    print(f"\n$ {shlex.join(['dagster', *arguments])}")
    done = subprocess.run(
        [sys.executable, "-m", "dagster", *arguments],
        cwd=settings.root,
        capture_output=True,
        check=False,
    )
    log = settings.home / "demo" / f"{tutor.name}.log"
    write_atomic(log, done.stdout + done.stderr)
    print(f"exit code {done.returncode}; Dagster's log: {log}\n")
    evidence = candidate(settings, tutor.run_id).evidence
    if not evidence.exists() or bool(done.returncode) is not bool(expected):
        tail = (done.stdout + done.stderr).decode(errors="replace").strip().split("\n")[-15:]
        raise SystemFailed(
            f"the run of {tutor.name!r} should have ended with exit code {expected}. Its last "
            f"lines, of {log}:\n" + "\n".join(tail)
        )
    report = build_report(settings, judge_evidence(settings, evidence))
    print_report(report, flips=5)
    print(f"The report as a page: {evidence.with_name(PAGE)}")


def _print_next_steps() -> None:
    print("The Dagster UI, with both runs, their checks and what was refused:")
    print("  ./dev run dagster dev    then open http://127.0.0.1:3000")
    print("The registry:")
    print("  ./dev run lynx-pipeline registry list")


def _say(title: str) -> None:
    print(f"\n== {title}", flush=True)
