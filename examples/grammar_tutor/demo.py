"""The demonstration: trains two tutors on this machine, promotes one, and has the other refused.

Both go through the same steps as a team's candidates: they are trained from the versioned corpus,
logged to MLflow, and run through Dagster. Running the demo again adds to the same state. A version
that already belongs to another bundle is not reused; the demo takes the next free one.
"""

from dataclasses import dataclass, replace

from examples.grammar_tutor.configs import CANDIDATE, REGRESSED, TrainConfig
from examples.grammar_tutor.train import train_and_log
from lynx_pipeline.adapters import mlflow_tracking
from lynx_pipeline.cli import main
from lynx_pipeline.cli.output import command_line
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.eval_set import bucket_sizes
from lynx_pipeline.domain.release.request import LABEL
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import Refused, SystemFailed
from lynx_pipeline.evaluation.candidate import SEMVER_TAG, fetch
from lynx_pipeline.evaluation.corpus import corpus_findings
from lynx_pipeline.evaluation.inputs import matched_inputs
from lynx_pipeline.registry import Registry


@dataclass(frozen=True, slots=True)
class Tutor:
    """A trained tutor: its MLflow run and the requested version."""

    name: str
    run_id: str
    semver: str


def run(settings: Settings) -> None:
    """Run the demonstration and print what happens.

    Raises:
        Refused: this is ``prod``.
        SystemFailed: a run did not end as expected.
    """
    if settings.env is Env.PROD:
        raise Refused("the demo does not run in prod. Unset LYNX_ENV and run it again.")
    _print_title("1. The eval set and the committed baseline")
    eval_set, baseline = matched_inputs(settings)
    tolerance = float(baseline.tolerance * 100)
    print(
        f"The eval set has {len(eval_set)} questions in {len(bucket_sizes(eval_set))} buckets, "
        "such as 'tense.past_simple' or 'verb.go'.\n"
        "The baseline is the accuracy of the reference model in each bucket. A candidate passes\n"
        f"only if no bucket is more than {tolerance:g} percentage points below it."
    )
    corpus = corpus_findings(settings, eval_set)
    if corpus is not None:
        print(corpus.overlap_text)

    _print_title("2. A good candidate, trained on the whole corpus")
    parent = baseline.baseline_sha
    good = _train(settings, replace(CANDIDATE, parent_sha=parent), "v0.1.0-dev")
    _run(good, expected=0)
    registry = Registry.open(settings)
    resolved = registry.resolve(good.semver)
    print(f"\nPromoted as {good.semver}. The registry tells a serving process what to load:")
    print(f"  model  {resolved.artifact_uri}\n  sha    {resolved.canonical_sha}")

    _print_title("3. A bad candidate: its data cleaning removed rare word forms, such as 'came'")
    bad = _train(settings, replace(REGRESSED, parent_sha=parent), "v0.1.1-dev")
    before = registry.verify()
    _run(bad, expected=1)
    if registry.verify() != before:
        raise SystemFailed("the refused run changed the registry. This is a bug; please report it.")
    print(f"\n{bad.semver} was refused. The registry is unchanged.")

    _print_title("4. What to look at next")
    _print_next_steps(settings)


def _train(settings: Settings, config: TrainConfig, semver: str) -> Tutor:
    run_id = train_and_log(settings, config, {LABEL: "true"})
    semver = _free_version(settings, run_id, semver)
    mlflow_tracking.tag_run(settings.tracking_uri, run_id, SEMVER_TAG, semver)
    print(f"Trained {config.name!r} and logged it as MLflow run {run_id}.\nRequested {semver}.")
    return Tutor(config.name, run_id, semver)


def _free_version(settings: Settings, run_id: str, semver: str) -> str:
    """``semver``, or the next free ``-dev.N`` if it already belongs to another bundle."""
    sha = fetch(settings, run_id).canonical_sha
    taken = {
        entry.fact.semver
        for entry in Registry.open(settings).history()
        if entry.fact.canonical_sha != sha
    }
    choices = [semver, *(f"{semver}.{n}" for n in range(1, len(taken) + 2))]
    return next(choice for choice in choices if choice not in taken)


def _run(tutor: Tutor, *, expected: int) -> None:
    """Run the command that a user would type, in this process, and check its exit code."""
    print(f"\n$ lynx-pipeline run {tutor.run_id} {tutor.semver}", flush=True)
    code = main(["run", tutor.run_id, tutor.semver])
    if code != expected:
        raise SystemFailed(
            f"the run of {tutor.name!r} ended with exit code {code}, expected {expected}. The "
            "message above says why."
        )


def _print_next_steps(settings: Settings) -> None:
    runner = ["./dev", "run"] if (settings.root / "dev").is_file() else []

    def show(*command: str) -> None:
        print(f"  {command_line(settings, [*runner, *command])}")

    print("Both runs and their checks in the Dagster UI, at http://127.0.0.1:3000:")
    show("dagster", "dev")
    print("All promoted versions:")
    show("lynx-pipeline", "registry", "list")
    print("Why a version was promoted, checked again from its evidence:")
    show("lynx-pipeline", "audit", "v0.1.0-dev")


def _print_title(title: str) -> None:
    print(f"\n== {title}", flush=True)
