"""What a team's server goes through. Each scenario acts, holds what happened to what has to, and
says what it sees as it goes; one that goes otherwise raises ``AssertionError``.

They build on one another, as the days of a server do: one server, one registry.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from lynx_pipeline.adapters.mlflow_tracking import find_model
from lynx_pipeline_tests.simulators.server import postgres_server
from lynx_pipeline_tests.simulators.server.postgres_server import PASSWORD
from lynx_pipeline_tests.simulators.server.team import SLOW, UNITS, Team, server, until

Story = Iterator[str]


def starts(team: Team) -> Story:
    """All units start on empty databases, and every health check that is documented answers."""
    assert team.postgres.ready()
    team.start()
    yield f"healthy: PostgreSQL, {', '.join(UNITS)}"
    until(lambda: team.alive(60), bool, "the daemon's first sign of life")
    yield "dagster-daemon liveness-check: live"


def viewers(team: Team) -> Story:
    """The viewers' UI refuses to launch a run; the sensor, switched on, requests one for the tagged
    candidate, and it is promoted."""
    one = team.log("one", "v0.1.0-dev")
    answer = team.launch(one, by="viewers")
    assert answer["__typename"] == "UnauthorizedError", answer
    assert team.runs(one) == []
    yield f"the viewers' UI says: {answer['message']}"
    team.sensor("start")
    (ended,) = team.ended(one)
    team.sensor("stop")
    yield f"the sensor asked for {ended['runId'][:8]}"
    assert team.promoted() == ["v0.1.0-dev"]
    assert team.alias() == "v0.1.0-dev"
    yield f"queue, evaluation, promotion: {ended['status']}; MLflow's alias is at v0.1.0-dev"


def one_at_a_time(team: Team) -> Story:
    """Two evaluations run at the same time; two promotions asked for at once run one by one."""
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
    """The daemon is killed while two runs are under way, and one's worker with it. The other run
    goes on; the queue waits. When the daemon is back, the lost run is done again."""
    whole, lost = team.log("whole", "v0.4.0-dev", SLOW), team.log("lost", "v0.5.0-dev", SLOW)
    for it in (whole, lost):
        team.launched(it)
    for it in (whole, lost):
        team.answering(it)
    team.kill("daemon")
    team.kill_worker(lost)
    yield "SIGKILL to the daemon and to one of two workers, while their candidates answer"
    waiting = team.log("waiting", "v0.6.0-dev")
    team.launched(waiting)
    (run,) = team.ended(whole)
    assert team.promoted()[3:] == ["v0.4.0-dev"]
    assert team.runs(waiting)[0]["status"] == "QUEUED"
    yield f"the other run went on: {run['status']}; what was asked for meanwhile is QUEUED"
    team.start("daemon")
    yield from _done_again(team, lost)
    assert len(team.ended(waiting)) == 1
    assert sorted(team.promoted()[4:]) == ["v0.5.0-dev", "v0.6.0-dev"]
    yield "what waited was promoted too"


def power_cut(team: Team) -> Story:
    """Everything dies at once while a run is under way and another waits, PostgreSQL as well."""
    run_id, waiting = team.log("power", "v0.7.0-dev", SLOW), team.log("dark", "v0.8.0-dev")
    team.launched(run_id)
    team.answering(run_id)
    team.kill("daemon")
    team.launched(waiting)
    team.kill()
    team.postgres.crash()
    yield "SIGKILL to every unit with all runs, and PostgreSQL crashed"
    team.postgres.start()
    team.start(*(it for it in UNITS if it != "daemon"))
    assert team.runs(run_id)[0]["status"] == "STARTED"
    yield "started again but for the daemon: the run that nobody works on is noted as STARTED"
    team.start("daemon")
    yield from _done_again(team, run_id)
    team.ended(waiting)
    assert sorted(team.promoted())[-2:] == ["v0.7.0-dev", "v0.8.0-dev"]
    yield "the one that waited was promoted too"


def backup_and_restore(team: Team) -> Story:
    """A backup is made while a run is under way, more is done, and then the machine is lost. A new
    one gets the backup: it shows the runs of before, verifies, and promotes."""
    known = team.promoted()
    run_id = team.log("backup", "v0.9.0-dev", SLOW)
    team.launched(run_id)
    team.answering(run_id)
    (team.folder / "backups").mkdir()
    backup = Path(_backup(team))
    yield f"deploy/backup, with a run under way: {', '.join(sorted(_names(backup)))}"
    later = team.log("later", "v0.10.0-dev")
    team.launched(later)
    team.ended(run_id)
    team.ended(later)
    assert sorted(team.promoted()) == sorted([*known, "v0.9.0-dev", "v0.10.0-dev"])
    yield "two more were promoted after it"
    _refused_mixed(team, backup)
    yield "a registry older than its checkpoint is refused by `registry verify`"
    _refused_over(team, backup)
    yield "deploy/restore over a server that has something: refused, nothing changed"

    team.kill()
    yield "the machine is lost: every unit killed"
    # The socket's folder is /run/lynx-code there, too.
    place = team.folder / "new", team.runtime
    with postgres_server.running() as postgres, server(place[0], postgres, place[1]) as new:
        _refused_damaged(new, backup)
        yield "deploy/restore of a backup in which one byte changed: refused"
        said = new.done(str(new.deploy / "restore"), str(backup))
        assert new.promoted() == known
        yield f"deploy/restore on a new machine; {said.splitlines()[-1]}"
        new.start(*(it for it in UNITS if it != "daemon"))
        for entry in json.loads(new.done("lynx-pipeline", "registry", "list", "--json")):
            run = new.runs(entry["mlflow_run_id"])[0]
            assert run["status"] == "SUCCESS", run
            assert find_model(new.tracking.uri, entry["mlflow_run_id"]).uri == entry["artifact_uri"]
        assert new.alias() == known[-1]
        yield "the UI shows the run of every entry, and MLflow has its model"
        until(lambda: not new.alive(31), bool, "a stopped daemon is seen")
        yield "its daemon was not started yet: dagster-daemon liveness-check fails"
        after = new.log("after", "v0.10.0-dev")
        new.launched(after)
        new.start("daemon")
        yield from _done_again(new, run_id)
        assert new.alive(31)
        new.ended(after)
        assert sorted(new.promoted()) == sorted([*known, "v0.9.0-dev", "v0.10.0-dev"])
        assert new.alias() == new.promoted()[-1]
        yield "the next candidate was promoted"
        _no_secret(new)
        yield "the database's password is in no log, file, row or argument"


ALL: tuple[Callable[[Team], Story], ...] = (
    starts,
    viewers,
    one_at_a_time,
    killed,
    power_cut,
    backup_and_restore,
)


def _done_again(team: Team, run_id: str) -> Story:
    """The candidate's lost run is noted as failed, and a retry of it promotes it."""
    done, *failed = team.ended(run_id)
    assert failed, "nobody noticed that the worker was gone"
    assert {it["status"] for it in failed} == {"FAILURE"}, failed
    parents = [it["parentRunId"] for it in (done, *failed)]
    assert parents == [*(it["runId"] for it in failed), None], parents
    for it in reversed(failed):
        yield f"run {it['runId'][:8]} is noted as FAILURE: {team.why_failed(it['runId'])}"
    yield f"its retry {done['runId'][:8]}: {done['status']}"


def _backup(team: Team) -> str:
    return team.done(str(team.deploy / "backup"), str(team.folder / "backups")).splitlines()[-1]


def _names(backup: Path) -> list[str]:
    return [it.name for it in backup.iterdir()]


def _refused_mixed(team: Team, backup: Path) -> None:
    """The ledger of one backup with the checkpoint of a later one."""
    mixed = team.folder / "mixed"
    shutil.copytree(backup / "registry", mixed)
    shutil.copy(team.home / "registry/index.checkpoint.json", mixed)
    done = team.run("lynx-pipeline", "registry", "verify", LYNX_REGISTRY=str(mixed))
    assert done.returncode == 2, done
    assert "cut off: the ledger had 10 entries and now has 8" in done.stderr, done.stderr


def _refused_over(team: Team, backup: Path) -> None:
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


def _refused_damaged(new: Team, backup: Path) -> None:
    damaged = new.folder / "damaged"
    shutil.copytree(backup, damaged)
    ledger = damaged / "registry/index.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b"v0.1.0-dev", b"v0.1.1-dev"))
    done = new.run(str(new.deploy / "restore"), str(damaged))
    assert done.returncode == 2, done
    assert "don't match SHA256SUMS. Nothing was changed" in done.stderr, done.stderr
    assert not any(new.home.iterdir())


def _no_secret(team: Team) -> None:
    secret = PASSWORD.encode()
    for file in team.folder.rglob("*"):
        assert not (file.is_file() and secret in file.read_bytes()), file
    for database in postgres_server.DATABASES:
        assert PASSWORD not in team.done("pg_dump", database), database
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            assert secret not in process.read_bytes(), process
