"""Really full disks. Run as a module, this promotes on one: ``STORE FOLDER HOW``."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from lynx_pipeline_tests.simulators.faults.git_commands import no_waiting
from lynx_pipeline_tests.simulators.faults.remote import REMOTE_COLUMNS, REPORTED
from lynx_pipeline_tests.simulators.faults.trial import (
    EVIDENCE,
    Table,
    bwrap_works,
    check_recovery,
    forked,
)
from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.places import InFolder, OnGit, promote, version

PAGE = 4096


def disk_is_full(tmp: Path, store: str) -> Table:
    """Promotions with ever more free pages on the registry's disk, which is a small filesystem or a
    limit on the size of files."""
    work = [sys.executable, "-m", __name__, store]
    kind = "a nearly full filesystem"
    tmp.mkdir(exist_ok=True)
    if bwrap_works():
        size = str(PAGE * (100 if store == "directory" else 400))
        box = ["bwrap", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
        work = [*box, "--size", size, "--tmpfs", str(tmp), "--", *work, str(tmp), "fill"]
    else:
        work = [*work, str(tmp), "limit"]
    root = str(REPO)
    done = subprocess.run(work, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["errors"]) > 1, found
    if store == "directory":
        return {(kind, "ENOSPC"): set(found["outcomes"])}
    reported = {REPORTED[error] for error in found["errors"]}
    return {(kind, REMOTE_COLUMNS[0]): set(found["outcomes"]), (kind, REMOTE_COLUMNS[1]): reported}


def _fill(store: str, tmp: Path, how: str) -> dict[str, object]:
    """Promote with ever more free space, until the promotion succeeds."""
    outcomes, errors, old = set(), set(), [version(n) for n in range(1, 8)]
    start, copy, filler = tmp / "start", tmp / "copy", tmp / "filler"
    first = InFolder(start) if store == "directory" else OnGit.new(start)
    for number in range(1, 8):  # nearly a page, so that the next line crosses its end
        promote(first.store, number)
    for free in range(0, 1000, 1 if store == "directory" else 4):
        shutil.copytree(start, copy)
        place = InFolder(copy) if store == "directory" else OnGit(copy)
        if how == "fill":
            _leave_pages(filler, free)

        def work(_: list[str], place: InFolder | OnGit = place, free: int = free) -> None:
            import resource

            tempfile.tempdir = "/dev/shm"
            if how == "limit":
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (free * 256, free * 256))
            with no_waiting():
                promote(place.store, 9, EVIDENCE)

        result = forked(work)
        filler.unlink(missing_ok=True)
        outcome = check_recovery(place, old)
        result.check_outcome(outcome)
        outcomes.add(outcome)
        shutil.rmtree(copy)
        errors.add(result.error)
        if not result.error:
            break
    return {"outcomes": sorted(outcomes), "errors": sorted(errors)}


def _leave_pages(filler: Path, free: int) -> None:
    with filler.open("wb", buffering=0) as file:
        room = os.statvfs(filler).f_bavail - free
        assert room > 0
        file.write(b"\0" * (room * PAGE))
    assert os.statvfs(filler).f_bavail == free


if __name__ == "__main__":
    print(json.dumps(_fill(sys.argv[1], Path(sys.argv[2]), sys.argv[3])))
