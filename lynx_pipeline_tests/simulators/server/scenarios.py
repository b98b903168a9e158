"""What happens to a team's server. Each scenario acts, asserts the results, and yields what it
observed. A scenario that fails raises ``AssertionError``.

The scenarios build on one another: they share one server and one registry.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from lynx_pipeline.adapters.mlflow_candidates import find_model
from lynx_pipeline_tests.simulators.server import postgres_server
from lynx_pipeline_tests.simulators.server.postgres_server import PASSWORD
from lynx_pipeline_tests.simulators.server.team import SLOW, UNITS, Team, server, until

Story = Iterator[str]


def starts(team: Team) -> Story:
    """All units start on empty databases, and every documented health check passes."""
    assert team.postgres.ready()
    team.start()
    yield f"healthy: PostgreSQL, {', '.join(UNITS)}"
    until(lambda: team.up("daemon") and team.alive(60), bool, "the daemon's first heartbeat")
    yield "dagster-daemon liveness-check: live"


def viewers(team: Team) -> Story:
    """The viewers' UI refuses to launch a run. The sensor, once started, requests a run for the
    tagged candidate, which promotes it."""
    one = team.log("one", "v0.1.0-dev")
    answer = team.launch(one, by="viewers")
    assert answer["__typename"] == "UnauthorizedError", answer
    assert team.runs(one) == []
    yield f"the viewers' UI refused: {answer['message']}"
    team.sensor("start")
    (ended,) = team.ended(one)
    team.sensor("stop")
    yield f"the sensor requested run {ended['runId'][:8]}"
    assert team.promoted() == ["v0.1.0-dev"]
    assert team.alias() == "v0.1.0-dev"
    yield f"queue, evaluation, promotion: {ended['status']}; MLflow's alias points to v0.1.0-dev"


def one_at_a_time(team: Team) -> Story:
    """Two evaluations run at the same time; two concurrent promotions run one after the other."""
    versions = ("v0.2.0-dev", "v0.3.0-dev")
    two = [team.log(f"two-{v}", v, SLOW.replace("0.7", "0.2")) for v in versions]
    for it in two:
        team.launched(it, "evaluate")
    (first,), (second,) = team.ended(two[0]), team.ended(two[1])
    assert first["startTime"] < second["endTime"], (first, second)
    assert second["startTime"] < first["endTime"], (first, second)
    yield "two evaluations overlapped"
    for it in two:
        team.launched(it, "promote")
    runs = sorted((team.ended(it)[0] for it in two), key=lambda it: float(it["startTime"]))
    _, end = team.step(runs[0]["runId"], "promotion_decision")
    assert end <= runs[1]["startTime"], runs
    assert sorted(team.promoted()) == ["v0.1.0-dev", *versions]
    yield f"the second promotion started {runs[1]['startTime'] - end:.1f} s after the first's end"


def killed(team: Team) -> Story:
    """The daemon is killed during two runs, together with one's worker. The other run continues and
    the queue waits. After the daemon's restart, the lost run is retried."""
    whole, lost = team.log("whole", "v0.4.0-dev", SLOW), team.log("lost", "v0.5.0-dev", SLOW)
    for it in (whole, lost):
        team.launched(it)
    for it in (whole, lost):
        team.answering(it)
    team.kill("daemon")
    team.kill_worker(lost)
    yield "SIGKILL to the daemon and to one of two workers, during their evaluations"
    waiting = team.log("waiting", "v0.6.0-dev")
    team.launched(waiting)
    (run,) = team.ended(whole)
    assert team.promoted()[3:] == ["v0.4.0-dev"]
    assert team.runs(waiting)[0]["status"] == "QUEUED"
    yield f"the other run continued: {run['status']}; the run requested meanwhile is QUEUED"
    team.start("daemon")
    yield from _retried(team, lost)
    assert len(team.ended(waiting)) == 1
    assert sorted(team.promoted()[4:]) == ["v0.5.0-dev", "v0.6.0-dev"]
    yield "the queued candidate was promoted too"


def power_cut(team: Team) -> Story:
    """All units and PostgreSQL crash at once, while one run is in progress and one is queued."""
    run_id, waiting = team.log("power", "v0.7.0-dev", SLOW), team.log("dark", "v0.8.0-dev")
    team.launched(run_id)
    team.answering(run_id)
    team.kill("daemon")
    team.launched(waiting)
    team.kill()
    team.postgres.crash()
    yield "SIGKILL to every unit and all runs, and PostgreSQL crashed"
    team.postgres.start()
    team.start(*(it for it in UNITS if it != "daemon"))
    assert team.runs(run_id)[0]["status"] == "STARTED"
    yield "restarted without the daemon: the interrupted run is still recorded as STARTED"
    team.start("daemon")
    yield from _retried(team, run_id)
    team.ended(waiting)
    assert sorted(team.promoted())[-2:] == ["v0.7.0-dev", "v0.8.0-dev"]
    yield "the queued candidate was promoted too"


def backup_and_restore(team: Team) -> Story:
    """A backup is made during a run, two candidates are promoted after it, and the machine is lost.
    The backup is restored on a new machine, which shows the earlier runs, verifies and promotes."""
    known = team.promoted()
    run_id = team.log("backup", "v0.9.0-dev", SLOW)
    team.launched(run_id)
    team.answering(run_id)
    (team.folder / "backups").mkdir()
    backup = Path(_backup(team))
    yield f"deploy/backup, during a run: {', '.join(sorted(_names(backup)))}"
    later = team.log("later", "v0.10.0-dev")
    team.launched(later)
    team.ended(run_id)
    team.ended(later)
    assert sorted(team.promoted()) == sorted([*known, "v0.9.0-dev", "v0.10.0-dev"])
    yield "two more candidates were promoted after the backup"
    _check_mixed_is_refused(team, backup)
    yield "a registry older than its checkpoint is refused by `registry verify`"
    _check_overwriting_is_refused(team, backup)
    yield "deploy/restore on a server with data: refused, nothing changed"

    team.kill()
    yield "the machine is lost: every unit was killed"
    # The socket's folder is the same on the new machine: /run/lynx-code.
    place = team.folder / "new", team.runtime
    with postgres_server.running() as postgres, server(place[0], postgres, place[1]) as new:
        _check_damaged_is_refused(new, backup)
        yield "deploy/restore of a backup with one changed byte: refused"
        output = new.done(str(new.deploy / "restore"), str(backup))
        assert new.promoted() == known
        yield f"deploy/restore on a new machine; {output.splitlines()[-1]}"
        new.start(*(it for it in UNITS if it != "daemon"))
        for entry in json.loads(new.done("lynx-pipeline", "registry", "list", "--json")):
            run = new.runs(entry["mlflow_run_id"])[0]
            assert run["status"] == "SUCCESS", run
            assert find_model(new.tracking.uri, entry["mlflow_run_id"]).uri == entry["artifact_uri"]
        assert new.alias() == known[-1]
        yield "the UI shows the run of every entry, and MLflow has its model"
        until(lambda: not new.alive(31), bool, "the liveness check fails without the daemon")
        yield "the daemon is not running yet: dagster-daemon liveness-check fails"
        after = new.log("after", "v0.10.0-dev")
        new.launched(after)
        new.start("daemon")
        yield from _retried(new, run_id)
        until(lambda: new.alive(31), bool, "the liveness check passes with the daemon")
        new.ended(after)
        assert sorted(new.promoted()) == sorted([*known, "v0.9.0-dev", "v0.10.0-dev"])
        assert new.alias() == new.promoted()[-1]
        yield "the next candidate was promoted"
        _check_no_secret_leaked(new)
        yield "the database's password is in no log, file, row or argument"


ALL: tuple[Callable[[Team], Story], ...] = (
    starts,
    viewers,
    one_at_a_time,
    killed,
    power_cut,
    backup_and_restore,
)


def _retried(team: Team, run_id: str) -> Story:
    """The candidate's lost run is recorded as failed, and its retry promotes the candidate."""
    done, *failed = team.ended(run_id)
    assert failed, "the lost worker was not detected"
    assert {it["status"] for it in failed} == {"FAILURE"}, failed
    parents = [it["parentRunId"] for it in (done, *failed)]
    assert parents == [*(it["runId"] for it in failed), None], parents
    for it in reversed(failed):
        yield f"run {it['runId'][:8]} is recorded as FAILURE: {team.why_failed(it['runId'])}"
    yield f"its retry {done['runId'][:8]}: {done['status']}"


def _backup(team: Team) -> str:
    return team.done(str(team.deploy / "backup"), str(team.folder / "backups")).splitlines()[-1]


def _names(backup: Path) -> list[str]:
    return [it.name for it in backup.iterdir()]


def _check_mixed_is_refused(team: Team, backup: Path) -> None:
    """A backup's ledger with a later checkpoint is refused."""
    mixed = team.folder / "mixed"
    shutil.copytree(backup / "registry", mixed)
    shutil.copy(team.home / "registry/index.checkpoint.json", mixed)
    done = team.run("lynx-pipeline", "registry", "verify", LYNX_REGISTRY=str(mixed))
    assert done.returncode == 2, done
    assert "cut off: the ledger had 10 entries and now has 8" in done.stderr, done.stderr


def _check_overwriting_is_refused(team: Team, backup: Path) -> None:
    before = team.promoted()
    done = team.run(str(team.deploy / "restore"), str(backup))
    assert done.returncode == 2, done
    assert "is not empty. Nothing was changed" in done.stderr, done.stderr
    other = team.folder / "other"
    done = team.run(str(team.deploy / "restore"), str(backup), LYNX_HOME=str(other))
    assert done.returncode == 2, done
    assert "database lynx_dagster is not empty" in done.stderr, done.stderr
    assert not other.exists()
    assert team.promoted() == before


def _check_damaged_is_refused(new: Team, backup: Path) -> None:
    damaged = new.folder / "damaged"
    shutil.copytree(backup, damaged)
    ledger = damaged / "registry/index.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b"v0.1.0-dev", b"v0.1.1-dev"))
    done = new.run(str(new.deploy / "restore"), str(damaged))
    assert done.returncode == 2, done
    assert "don't match SHA256SUMS. Nothing was changed" in done.stderr, done.stderr
    assert not any(new.home.iterdir())


def _check_no_secret_leaked(team: Team) -> None:
    secret = PASSWORD.encode()
    for file in team.folder.rglob("*"):
        assert not (file.is_file() and secret in file.read_bytes()), file
    for database in postgres_server.DATABASES:
        assert PASSWORD not in team.done("pg_dump", database), database
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            assert secret not in process.read_bytes(), process
