"""docs/deployment.md, followed step by step on a freshly booted machine: root runs each block, and
systemd starts the units. The page's health checks run after each step."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lynx_pipeline_tests.end_to_end.test_docs import origin
from lynx_pipeline_tests.simulators.server.machine import Machine, booted
from lynx_pipeline_tests.support import REPO

pytestmark = pytest.mark.slow(seconds=300)

PAGE = (REPO / "docs/deployment.md").read_text()
LOCK = "requirements-postgres.lock"
PACKAGES, ORIGIN, CACHE = "/srv/packages", "/srv/origin", "/srv/cache"
SECONDS = 90.0


def block(heading: str, which: int = 0) -> str:
    """A block for root under a heading."""
    section = re.split(r"(?m)^##+ ", PAGE.partition(f"## {heading}\n")[2])[0]
    found: list[str] = re.findall(r"(?ms)^```bash\n(.*?)^```$", section)
    return found[which]


def health_checks() -> dict[str, str]:
    """The commands in the page's table of health checks, by what they check."""
    section = PAGE.partition("## Health\n")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| ([\w ]+) \| `([^`]+)`", section)
    return {what: command for what, command in rows if what != "what"}


AS_LYNX = block("Setting it up", 1).partition("\n}\n")[0] + "\n}\n"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """uv's cache with the locked packages, since the machine has no network."""
    cache = tmp_path_factory.mktemp("packages")
    install = ["uv", "pip", "install", "--quiet", "--python", "/usr/bin/python3"]
    places = ["--cache-dir", str(cache), "--target", str(cache / "installed")]
    subprocess.run([*install, *places, "--require-hashes", "-r", str(REPO / LOCK)], check=True)
    shutil.rmtree(cache / "installed")
    return cache


@pytest.fixture(scope="module")
def machine(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The machine with which the page starts."""
    folder = tmp_path_factory.mktemp("machine")
    origin(folder / "origin")
    files = {
        # Instead of a network: the repository as a folder, and packages that are already installed.
        "/etc/gitconfig": f'[url "file://{ORIGIN}"]\n\tinsteadOf = https://github.com/OWNER/REPO\n'
        "[safe]\n\tdirectory = *\n",
        "/etc/apt/apt.conf.d/99-test": 'APT::Get::Upgrade "false";\n',
    }
    uv = shutil.which("uv")
    assert uv
    shown = {PACKAGES: packages, ORIGIN: folder / "origin", "/usr/local/bin/uv": Path(uv)}
    with booted(folder, files, shown, {"UV_CACHE_DIR": CACHE, "UV_OFFLINE": "1"}) as it:
        done(it, f"cp -r {PACKAGES} {CACHE}")  # uv writes to its cache
        yield it


def done(machine: Machine, script: str) -> str:
    """The output of a script that must succeed."""
    ended = machine.run(f"{AS_LYNX}{script}")
    assert ended.returncode == 0, f"{script}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def check_health(machine: Machine) -> None:
    """Assert that every health check of the page passes before a deadline."""
    checks = health_checks()
    assert len(checks) == 7, checks
    end = time.monotonic() + SECONDS
    for what, command in checks.items():
        # Exit code 3 of `systemctl status`: it ran and is not running now.
        script = command.replace("systemctl status", "! systemctl is-failed")
        for port in ("3000", "3001") if "3000" in command else ("",):
            while (check := machine.run(AS_LYNX + script.replace("3000", port))).returncode:
                if time.monotonic() > end:
                    pytest.fail(f"{what}: {check.stdout}{check.stderr}\n{journal(machine)}")
                time.sleep(1)


def journal(machine: Machine) -> str:
    """The last log lines of the units."""
    return machine.run("journalctl --no-pager --lines=60 --unit='lynx-*'").stdout


def entries(machine: Machine) -> list[dict[str, object]]:
    """The registry's entries."""
    found: list[dict[str, object]] = json.loads(
        done(machine, "as_lynx lynx-pipeline registry list --json")
    )
    return found


def evaluated(machine: Machine, run_id: str) -> tuple[str, dict[str, object]]:
    """Evaluate a candidate again through the queue; returns the run's status and the evidence."""
    config = json.dumps({"ops": {"candidate_eval": {"config": {"again": True}}}})
    tags = json.dumps({"dagster/partition": run_id})
    evidence = f"/var/lib/lynx/candidates/{run_id}/evidence/candidate_eval.json"
    done(
        machine,
        f"cd /srv/lynx; rm {evidence}; as_lynx dagster job launch --job evaluate "
        f"--workspace deploy/workspace.yaml --tags '{tags}' --config-json '{config}'",
    )
    query = "SELECT status FROM runs ORDER BY id DESC LIMIT 1"
    end = time.monotonic() + SECONDS
    while (status := done(machine, f'as_lynx psql -tA lynx_dagster -c "{query}"').strip()) not in (
        "SUCCESS",
        "FAILURE",
    ):
        assert time.monotonic() < end, status
        time.sleep(1)
    return status, json.loads(done(machine, f"cat {evidence}"))


def test_the_page_sets_up_and_restores_a_server(machine: Machine) -> None:
    """The page's blocks set up, upgrade and restore it; in between it is used, killed and lost."""
    done(machine, block("Setting it up").replace("apt install", "apt-get install --yes"))
    assert "0 entries" in done(machine, block("Setting it up", 1))
    check_health(machine)

    done(machine, "as_lynx lynx-pipeline demo")
    (entry,) = entries(machine)
    status, evidence = evaluated(machine, str(entry["mlflow_run_id"]))
    assert (status, evidence["isolation"]) == ("SUCCESS", "bubblewrap")

    done(machine, "systemctl kill --signal=KILL 'lynx-*.service'")
    check_health(machine)

    done(machine, block("Upgrade"))
    check_health(machine)

    done(
        machine,
        "systemctl stop lynx.target; mv /var/lib/lynx /var/lib/lost\n"
        'for name in lynx_dagster lynx_mlflow; do su postgres -c "dropdb --force $name"\n'
        'su postgres -c "createdb --owner lynx $name"; done',
    )
    (backup,) = done(machine, "ls -d /var/backups/lynx/*").split()
    restored = re.sub(r"/var/backups/lynx/\S+", backup, block("Restore"))
    assert "The ledger is consistent: 1 entry, " in done(machine, restored)
    check_health(machine)
    assert entries(machine) == [entry]
    assert done(machine, "systemctl list-units --failed --no-legend 'lynx*'") == ""
