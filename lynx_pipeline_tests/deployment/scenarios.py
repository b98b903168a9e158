"""What a team's server goes through. Each scenario acts, holds what happened to what has to, and
says what it sees as it goes; one that goes otherwise raises ``AssertionError``.

They build on one another, as the days of a server do: one server, one registry.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from lynx_pipeline_tests.deployment import postgres_server
from lynx_pipeline_tests.deployment.postgres_server import PASSWORD
from lynx_pipeline_tests.deployment.team import DEPLOY, SLOW, UNITS, Team, server, until

Story = Iterator[str]


def starts(team: Team) -> Story:
    """All units start on empty databases, and every health check that is documented answers."""
    assert team.postgres.ready()
    team.start()
    yield f"healthy: PostgreSQL, {', '.join(UNITS)}"
    until(lambda: team.alive(60), bool, "the daemon's first sign of life")
    yield "dagster-daemon liveness-check: live"
    assert sorted(it.name for it in DEPLOY.iterdir()) == DEPLOYED, "something was written there"


def viewers(team: Team) -> Story:
    """The viewers' UI refuses to launch a run; the editors' does it, and it is promoted."""
    one = team.log("one", "v0.1.0-dev")
    answer = team.launch(one, by="viewers")
    assert answer["__typename"] == "UnauthorizedError", answer
    assert team.runs(one) == []
    yield f"the viewers' UI says: {answer['message']}"
    run = team.launched(one)
    yield f"the editors' UI launched {run[:8]}"
    (ended,) = team.ended(one)
    assert team.promoted() == ["v0.1.0-dev"]
    assert team.alias() == "v0.1.0-dev"
    yield f"queue, evaluation, promotion: {ended['status']}; MLflow's alias is at v0.1.0-dev"


def one_at_a_time(team: Team) -> Story:
    """Two evaluations run at the same time; two promotions asked for at once run one by one."""
    versions = ("v0.2.0-dev", "v0.3.0-dev")
    two = [team.log(f"two-{v}", v, SLOW.replace("sleep(1)", "sleep(0.3)")) for v in versions]
    for it in two:
        team.launched(it, "evaluate")
    (first,), (second,) = team.ended(two[0]), team.ended(two[1])
    assert first["startTime"] < second["endTime"], (first, second)
    assert second["startTime"] < first["endTime"], (first, second)
    yield "two evaluations overlapped"
    for it in two:
        team.launched(it, "promote")
    steps = [team.step(team.ended(it)[0]["runId"], "promotion_decision") for it in two]
    (_, end), (start, _) = sorted(steps)
    assert end <= start, steps
    assert sorted(team.promoted()) == ["v0.1.0-dev", *versions]
    yield f"two promotions ran {start - end:.1f} seconds apart, never together"


def daemon_killed(team: Team) -> Story:
    """The daemon is killed while a run is under way: the run goes on, the queue waits, and goes on
    when the daemon is back."""
    slow, next_one = team.log("slow", "v0.4.0-dev", SLOW), team.log("next", "v0.5.0-dev")
    team.launched(slow)
    team.answering(slow)
    team.kill("daemon")
    yield "SIGKILL to the daemon while a candidate answers"
    team.launched(next_one)
    (run,) = team.ended(slow)
    assert team.runs(next_one)[0]["status"] == "QUEUED"
    yield f"the run went on: {run['status']}; the next one is QUEUED"
    team.start("daemon")
    assert len(team.ended(next_one)) == 1
    assert team.promoted()[-2:] == ["v0.4.0-dev", "v0.5.0-dev"]
    yield "daemon started again: the next one was launched and promoted"


def worker_killed(team: Team) -> Story:
    """A run's worker is killed, and the daemon: the run is noted as failed, and done again."""
    run_id = team.log("worker", "v0.6.0-dev", SLOW)
    team.launched(run_id)
    team.answering(run_id)
    team.kill("daemon")
    assert team.kill_workers() == 1
    yield "SIGKILL to the daemon and to the run's worker"
    team.start("daemon")
    yield from _done_again(team, run_id)
    assert team.promoted()[-1] == "v0.6.0-dev"


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
    team.start()
    yield f"started again; the run is still noted as {team.runs(run_id)[0]['status']}"
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
    team.ended(run_id)
    later = team.log("later", "v0.10.0-dev")
    team.launched(later)
    team.ended(later)
    assert team.promoted() == [*known, "v0.9.0-dev", "v0.10.0-dev"]
    yield "two more were promoted after it"
    _refused_mixed(team, backup)
    yield "a registry older than its checkpoint: `registry verify` refuses it"
    _refused_over(team, backup)
    yield "deploy/restore over a server that has something: refused, nothing changed"

    team.kill()
    yield "the machine is lost: every unit killed"
    # The socket's folder is /run/lynx-code there, too.
    place = team.folder / "new", team.runtime
    with postgres_server.running() as postgres, server(place[0], postgres, place[1]) as new:
        _refused_damaged(new, backup)
        yield "deploy/restore of a backup in which one byte changed: refused"
        said = new.done(str(DEPLOY / "restore"), str(backup))
        assert new.promoted() == known
        yield f"deploy/restore on a new machine; {said.splitlines()[-1]}"
        new.start()
        first = new.runs(_first(new))
        assert first[0]["status"] == "SUCCESS", first
        yield "the UI shows the runs of before, MLflow the models"
        assert new.alias() == known[-1]
        yield from _done_again(new, run_id)
        assert new.promoted() == [*known, "v0.9.0-dev"]
        after = new.log("after", "v0.10.0-dev")
        new.launched(after)
        new.ended(after)
        assert new.promoted() == [*known, "v0.9.0-dev", "v0.10.0-dev"]
        assert new.alias() == "v0.10.0-dev"
        yield "and the next candidate was promoted"
        new.kill("daemon")
        stopped = time.monotonic()
        _no_secret(new)
        yield "the password is in no log, no argument, no file and no row"
        until(lambda: not new.alive(40), bool, "a stopped daemon is seen")
        yield f"a stopped daemon is seen by liveness-check after {time.monotonic() - stopped:.0f} s"


ALL: tuple[Callable[[Team], Story], ...] = (
    starts,
    viewers,
    one_at_a_time,
    daemon_killed,
    worker_killed,
    power_cut,
    backup_and_restore,
)
DEPLOYED = sorted(["backup", "dagster.yaml", "lynx.env", "restore", "systemd", "workspace.yaml"])


def _done_again(team: Team, run_id: str) -> Story:
    """The candidate's lost run is noted as failed, and a retry promotes it."""
    runs = team.ended(run_id)
    assert [it["status"] for it in runs] == ["SUCCESS", "FAILURE"], runs
    assert runs[0]["parentRunId"] == runs[1]["runId"]
    yield f"run {runs[1]['runId'][:8]} is noted as FAILURE; its retry: {runs[0]['status']}"


def _backup(team: Team) -> str:
    return team.done(str(DEPLOY / "backup"), str(team.folder / "backups")).splitlines()[-1]


def _names(backup: Path) -> list[str]:
    return [it.name for it in backup.iterdir()]


def _first(team: Team) -> str:
    """The run of the first promotion."""
    entries = json.loads(team.done("lynx-pipeline", "registry", "list", "--json"))
    return str(entries[0]["mlflow_run_id"])


def _refused_mixed(team: Team, backup: Path) -> None:
    """The ledger of one backup with the checkpoint of a later one."""
    mixed = team.folder / "mixed"
    shutil.copytree(backup / "registry", mixed)
    shutil.copy(team.home / "registry/index.checkpoint.json", mixed)
    done = team.run("lynx-pipeline", "registry", "verify", LYNX_REGISTRY=str(mixed))
    assert done.returncode == 2, done
    assert "checkpoint" in done.stderr, done.stderr


def _refused_over(team: Team, backup: Path) -> None:
    before = team.promoted()
    done = team.run(str(DEPLOY / "restore"), str(backup))
    assert done.returncode == 2, done
    assert "is not empty. Nothing was changed" in done.stderr, done.stderr
    other = team.folder / "other"
    done = team.run(str(DEPLOY / "restore"), str(backup), LYNX_HOME=str(other))
    assert done.returncode == 2, done
    assert "database lynx_dagster is not empty" in done.stderr, done.stderr
    assert not other.exists()
    assert team.promoted() == before


def _refused_damaged(new: Team, backup: Path) -> None:
    damaged = new.folder / "damaged"
    shutil.copytree(backup, damaged)
    ledger = damaged / "registry/index.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b"v0.1.0-dev", b"v0.1.1-dev"))
    done = new.run(str(DEPLOY / "restore"), str(damaged))
    assert done.returncode == 2, done
    assert "is not as it was written. Nothing was changed" in done.stderr, done.stderr
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
