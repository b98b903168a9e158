"""The sensors: one announces promotions, one tags lost runs, one requests runs for tagged MLflow
runs, and one watches MLflow's alias."""

from collections import deque
from typing import Any

from dagster import (
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    RunStatusSensorContext,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    run_failure_sensor,
    run_status_sensor,
    sensor,
)

from lynx_pipeline.adapters import mlflow_tracking, notify
from lynx_pipeline.adapters.mlflow_tracking import TaggedRun
from lynx_pipeline.config import Settings, gate_name
from lynx_pipeline.defs.gate import (
    EVAL_AND_PROMOTE,
    EVALUATE,
    PARTITION_TAG,
    PROMOTION_DECISION,
    Gate,
)
from lynx_pipeline.defs.jobs import Jobs
from lynx_pipeline.defs.metadata import IS_NEW
from lynx_pipeline.defs.outcome import OUTCOME_TAG, Outcome
from lynx_pipeline.defs.requests import promotes
from lynx_pipeline.domain.candidate_key import parse_key
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.domain.release.request import LABEL
from lynx_pipeline.domain.versioning import Env, check_semver
from lynx_pipeline.errors import BadInput, Refused, SystemFailed
from lynx_pipeline.evaluation.candidate import MODEL_TAG, PULL_REQUEST_TAG, SEMVER_TAG, choose
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.alias_watch import report_moved_alias
from lynx_pipeline.registry.mirror import alias_problem

# How many runs a tick looks at and requests; the next tick continues there.
LOOKED_AT, REQUESTED = 200, 20
_RUN_KEY, _NAMED = "dagster/run_key", 5
# A tag of an MLflow run: the gate that it is for, by its own name or that of the project's model.
GATE_TAG = "lynx.gate"


def build_sensors(gate: Gate, jobs: Jobs) -> list[SensorDefinition]:
    """The sensors of a gate."""
    return [
        _announce_promotions(gate, jobs),
        _tag_lost_runs(gate, jobs),
        _tagged_candidates(gate, jobs),
        _watch_alias(gate),
    ]


def _announce_promotions(gate: Gate, jobs: Jobs) -> SensorDefinition:
    @run_status_sensor(
        name=gate.prefixed("announce_promotions"),
        run_status=DagsterRunStatus.SUCCESS,
        monitored_jobs=[jobs.promote, jobs.eval_and_promote],
        default_status=DefaultSensorStatus.RUNNING,
        description="Announces each promotion on the channels of APPRISE_URLS.",
    )
    def announce_promotions(context: RunStatusSensorContext) -> SkipReason | None:
        """Announces each promotion that a run made on the channels of ``APPRISE_URLS``.

        A failed delivery fails the tick. It does not affect the promotion.
        """
        if not notify.configured():
            return SkipReason(f"{notify.CHANNELS} names no channel.")
        entry = _made_by(gate, context)
        if entry is None:
            return SkipReason("The run made no new promotion.")
        from lynx_pipeline.registry.announcement import announce

        delivered = announce(entry, gate.settings().identity)
        context.log.info(f"Announced {entry.fact.semver} on {delivered} channels.")
        return None

    return announce_promotions


def _made_by(gate: Gate, context: RunStatusSensorContext) -> Entry[Promoted] | None:
    """The promotion that this run made; None if it was made before."""
    for log in context.instance.all_logs(
        context.dagster_run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION
    ):
        made: Any = log.asset_materialization
        if made.asset_key == gate.key(PROMOTION_DECISION):
            if not made.metadata[IS_NEW].value:
                return None
            return Registry.open(gate.settings()).promoted(str(made.metadata["semver"].value))
    return None


def _tag_lost_runs(gate: Gate, jobs: Jobs) -> SensorDefinition:
    @run_failure_sensor(
        name=gate.prefixed("tag_lost_runs"),
        # A named gate leaves the runs of other jobs in the code location alone.
        monitored_jobs=[*jobs] if gate.name else None,
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            f"Tags a failed run that could not do it itself: {OUTCOME_TAG}={Outcome.BROKEN}."
        ),
    )
    def tag_lost_runs(context: RunStatusSensorContext) -> SkipReason | None:
        """Tags a candidate's run that failed without an outcome, because its process was killed or
        never started."""
        run = context.instance.get_run_by_id(context.dagster_run.run_id) or context.dagster_run
        if PARTITION_TAG not in run.tags or OUTCOME_TAG in run.tags:
            return SkipReason("The run has an outcome, or is not about a candidate.")
        context.instance.add_run_tags(run.run_id, {OUTCOME_TAG: Outcome.BROKEN.value})
        return None

    return tag_lost_runs


def _tagged_candidates(gate: Gate, jobs: Jobs) -> SensorDefinition:
    @sensor(
        name=gate.prefixed("tagged_candidates"),
        jobs=[jobs.evaluate, jobs.eval_and_promote],
        minimum_interval_seconds=60,
        default_status=DefaultSensorStatus.STOPPED,
        description=(
            f"Requests a run for each finished MLflow run with the tags {_wanted(gate)} and "
            f"{SEMVER_TAG}: evaluation and promotion in dev, evaluation only in prod. Off by "
            "default."
        ),
    )
    def tagged_candidates(context: SensorEvaluationContext) -> SensorResult:
        """Requests a run for each finished MLflow run with the tags `deploy-candidate=true` and
        `lynx.semver`: evaluation and promotion in dev, evaluation only in prod, where only the CI
        workflow can promote.

        A run can be tagged long after it was made, so the sensor keeps cycling over all tagged
        runs, some per tick; the cursor is its position. Each version of a run is requested only
        once; to try again, launch the candidate by hand. The tag `lynx.model` names one of a run's
        several models. A named gate requests only runs with its name as the tag `lynx.gate`, since
        others may use the same MLflow server.
        """
        try:
            settings = gate.settings()
            runs, following = mlflow_tracking.tagged_runs(
                settings.tracking_uri, LABEL, "true", context.cursor or "", LOOKED_AT
            )
        except (BadInput, SystemFailed) as error:
            # Start over: the old position may be invalid on a server that was set up again.
            return SensorResult(skip_reason=str(error), cursor="")
        runs = [run for run in runs if gate_name(run.tags.get(GATE_TAG, "")) == gate.name]
        valid, problems = [], []
        for run in runs:
            try:
                valid.append((run, _asked_semver(run, settings.env)))
            except BadInput as error:
                problems.append(str(error))
        known = _requested(context.instance, [_key(gate, *one) for one in valid])
        new = deque(one for one in valid if _key(gate, *one) not in known)
        requests, keys = list[RunRequest](), list[str]()
        while new and len(requests) < REQUESTED:
            run, semver = new.popleft()
            try:
                candidate = _candidate(settings, run)
            except (BadInput, Refused, SystemFailed) as error:
                problems.append(str(error))
                continue
            requests.append(_request(gate, run, candidate, semver, settings.env))
            keys.append(candidate)
        for problem in problems:
            context.log.warning(problem)
        return SensorResult(
            run_requests=requests,
            dynamic_partitions_requests=[gate.partitions.build_add_request(keys)] if keys else [],
            skip_reason=None if requests else _nothing_new(gate, len(runs), len(valid), problems),
            cursor=context.cursor if new else following,
        )

    return tagged_candidates


def _wanted(gate: Gate) -> str:
    """The tags that ask for a run of this gate."""
    return f"{LABEL}=true, {GATE_TAG}={gate.name}" if gate.name else f"{LABEL}=true"


def _asked_semver(run: TaggedRun, env: Env) -> str:
    """The version that a run requests.

    Raises:
        BadInput: the version is invalid here, or the run has not finished.
    """
    if run.status != "FINISHED":
        raise BadInput(f"MLflow run {run.run_id} is {run.status}: expected FINISHED.")
    semver = run.tags.get(SEMVER_TAG, "")
    try:
        check_semver(semver, env)
    except BadInput as error:
        raise BadInput(f"MLflow run {run.run_id}, tag {SEMVER_TAG}: {str(error)[:300]}") from None
    return semver


def _candidate(settings: Settings, run: TaggedRun) -> str:
    """The candidate's key: the run's id, or that of the model that its tag names.

    Raises:
        BadInput: not exactly one of the run's models has this name.
        Refused: the model is in a location that is not allowed.
        SystemFailed: MLflow failed.
    """
    name = run.tags.get(MODEL_TAG)
    if name is None:
        return str(parse_key(run.run_id))
    return str(choose(settings, run.run_id, name).key)


def _key(gate: Gate, run: TaggedRun, semver: str) -> str:
    parts = (gate.name, run.run_id, run.tags.get(MODEL_TAG), semver)
    return ":".join(part for part in parts if part)


def _requested(instance: DagsterInstance, keys: list[str]) -> set[str]:
    """The ``keys`` that already have a Dagster run."""
    if not keys:
        return set()
    return {run.tags[_RUN_KEY] for run in instance.get_runs(RunsFilter(tags={_RUN_KEY: keys}))}


def _request(gate: Gate, run: TaggedRun, candidate: str, semver: str, env: Env) -> RunRequest:
    """The request, for the version that the tag has now.

    It has no bundle digest. That would mean a download in the tick, which has a minute for all
    runs, and it would protect nothing that anybody has seen: the bytes may also change between the
    tagging and the tick. What the run downloads first is what it evaluates, and it promotes nothing
    else.
    """
    tags = {SEMVER_TAG: semver, PULL_REQUEST_TAG: run.tags.get(PULL_REQUEST_TAG)}
    return RunRequest(
        run_key=_key(gate, run, semver),
        job_name=gate.prefixed(EVALUATE if env is Env.PROD else EVAL_AND_PROMOTE),
        partition_key=candidate,
        run_config={} if env is Env.PROD else promotes(gate, semver),
        tags={key: value for key, value in tags.items() if value},
    )


def _nothing_new(gate: Gate, looked_at: int, fit: int, problems: list[str]) -> str:
    if not looked_at:
        return f"No more MLflow runs have the tag {_wanted(gate)}."
    more = len(problems) - _NAMED
    named = [*problems[:_NAMED], *([f"And {more} more: see the tick's log."] if more > 0 else [])]
    return " ".join(
        [f"{fit} of {looked_at} tagged runs are valid; all were requested before.", *named]
    )


def _watch_alias(gate: Gate) -> SensorDefinition:
    @sensor(
        name=gate.prefixed("watch_alias"),
        minimum_interval_seconds=60,
        default_status=DefaultSensorStatus.STOPPED,
        description=(
            "Sends a message to the channels of APPRISE_URLS when MLflow's alias does not name the "
            "latest promotion. Off by default."
        ),
    )
    def watch_alias(context: SensorEvaluationContext) -> SkipReason:
        """Sends a message to the channels of `APPRISE_URLS` when MLflow's alias does not name the
        latest promotion, because somebody moved it.

        It has to be so at two ticks: a promotion moves the alias only after its entry is written.
        The cursor is the problem that was seen, and whether the message was sent. A failed delivery
        fails the tick, and the next one tries again.
        """
        try:
            problem = alias_problem(Registry.open(gate.settings()))
        except (BadInput, Refused, SystemFailed) as error:
            return SkipReason(str(error))
        if problem is None:
            context.update_cursor("")
            return SkipReason("MLflow's alias names no other version than the latest promotion.")
        sent = f"sent: {problem}"
        if context.cursor == problem:
            failed = report_moved_alias(gate.settings().model, problem).failed
            if failed:
                raise SystemFailed(f"{problem} Not every channel got this: {'; '.join(failed)}.")
        context.update_cursor(sent if context.cursor in (problem, sent) else problem)
        return SkipReason(problem)

    return watch_alias
