"""The actions that our workflows use, each as a function with the same effect on files.

Artifacts are in one folder: ``NAME.zip``, and ``NAME.json`` with its id, its digest, and the
attempt that uploaded it.
"""

import base64
import hashlib
import itertools
import json
import os
import re
import subprocess
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lynx_pipeline_tests.deploy_workflow.pins import OWN_ACTION
from lynx_pipeline_tests.simulators.actions.workflow import NotModelled


class ActionFailed(Exception):
    """The action's error message for its failed step."""


@dataclass(frozen=True)
class Call:
    """An action in its step. ``inputs`` are the values of ``with``; ``log`` writes to the log."""

    inputs: Mapping[str, str]
    workspace: Path
    artifacts: Path
    attempt: int
    github: Mapping[str, Any]
    origin: str
    environ: Mapping[str, str]
    digest_mismatch: str
    log: Callable[[str], None]

    def flag(self, name: str, default: bool) -> bool:
        """A boolean input."""
        text = self.inputs.get(name, str(default)).lower()
        if text not in ("true", "false"):
            raise ActionFailed(f"Input does not meet YAML 1.2 Core Schema: {name}")
        return text == "true"

    def path(self, name: str) -> Path:
        """An input that is a path, by default the workspace."""
        return self.workspace / self.inputs.get(name, "")


Outputs = dict[str, str]


def use(action: str, call: Call) -> Outputs:
    """Run the action with this ``uses:`` value.

    Raises:
        ActionFailed: its step fails.
        NotModelled: the action or an input is unknown, or it is not pinned to a commit.
    """
    name, _, ref = action.partition("@")
    if action != OWN_ACTION and not re.fullmatch("[0-9a-f]{40}", ref):
        raise NotModelled(f"an action that is not pinned to a commit: {action}")
    if name not in _ACTIONS:
        raise NotModelled(f"an action: {action}")
    known, function = _ACTIONS[name]
    if unknown := call.inputs.keys() - set(known):
        raise NotModelled(f"inputs of {name}: {sorted(unknown)}")
    return function(call)


# ----- actions/checkout ---------------------------------------------------------------------


def _checkout(call: Call) -> Outputs:
    """Check out the run's commit on its branch, or what ``ref`` names."""
    ref, commit = call.github["ref"], call.github["sha"]
    if wanted := call.inputs.get("ref"):
        is_commit = re.fullmatch("[0-9a-f]{40}", wanted)
        ref, commit = ("", wanted) if is_commit else (wanted, "")
    if ref and not ref.startswith("refs/"):
        ref = f"refs/heads/{ref}"
    branch = ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else ""
    place = f"refs/remotes/origin/{branch}"
    folder, token = call.path("path"), call.inputs.get("token", call.github["token"])
    folder.mkdir(parents=True, exist_ok=True)
    host = urlsplit(call.origin)
    header = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    setting = f"http.{host.scheme}://{host.netloc}/.extraheader"

    def git(*arguments: str) -> None:
        call.log(f"[command]git {' '.join(arguments)}")
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=call.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        call.log(done.stdout)
        if done.returncode:
            raise ActionFailed(f"The process 'git' failed with exit code {done.returncode}")

    call.log(f"::add-mask::{header}")
    git("init", "--quiet", ".")
    git("remote", "add", "origin", call.origin)
    git("config", "--local", setting, f"AUTHORIZATION: basic {header}")
    depth = call.inputs.get("fetch-depth", "1")
    if depth == "0":
        git("fetch", "--prune", "origin", "+refs/heads/*:refs/remotes/origin/*", "--tags")
    limit = () if depth == "0" else ("--no-tags", f"--depth={depth}")
    git("fetch", *limit, "origin", f"+{commit or ref}:{place}" if branch else commit or ref)
    where = ("-B", branch, place) if branch else ("--detach", "FETCH_HEAD")
    git("checkout", "--quiet", "--force", *where)
    if not call.flag("persist-credentials", default=True):
        git("config", "--local", "--unset-all", setting)
    return {"ref": ref, "commit": commit}


# ----- actions/upload-artifact --------------------------------------------------------------


def _upload(call: Call) -> Outputs:
    """Upload files, named relative to their common folder; hidden ones only on request."""
    name = call.inputs.get("name", "artifact")
    if re.search(r'["*/:<>?\\|\r\n]', name):
        raise ActionFailed(f"The artifact name is not valid: {name}")
    files, root = _found(call)
    if not files:
        return _nothing(call)
    target, about = call.artifacts / f"{name}.zip", call.artifacts / f"{name}.json"
    if about.exists() and json.loads(about.read_text())["attempt"] == call.attempt:
        raise ActionFailed(
            "Failed to CreateArtifact: Received non-retryable error: (409) Conflict: an artifact "
            "with this name already exists on the workflow run"
        )
    with zipfile.ZipFile(target, "w") as archive:
        for file in files:
            # File modes are not kept.
            entry = zipfile.ZipInfo(file.relative_to(root).as_posix())
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    ids = [json.loads(file.read_text())["id"] for file in call.artifacts.glob("*.json")]
    number = max(ids, default=0) + 1
    about.write_text(json.dumps({"id": number, "digest": digest, "attempt": call.attempt}))
    call.log(f"Artifact {name} has been successfully uploaded! {len(files)} files, {digest}")
    return {"artifact-id": str(number), "artifact-digest": digest}


def _nothing(call: Call) -> Outputs:
    message = (
        f"No files were found with the provided path: {call.inputs.get('path')}. No artifacts "
        "will be uploaded."
    )
    match call.inputs.get("if-no-files-found", "warn"):
        case "error":
            raise ActionFailed(message)
        case "warn":
            call.log(f"::warning::{message}")
        case "ignore":
            call.log(message)
        case other:
            raise ActionFailed(f"Unrecognized if-no-files-found input: {other}")
    return {}


def _found(call: Call) -> tuple[list[Path], Path]:
    """The files that ``path`` names, and the folder to which their names are relative."""
    patterns = [line.strip() for line in call.inputs.get("path", "").splitlines()]
    patterns = [line for line in patterns if line and not line.startswith("#")]
    if not patterns:
        raise ActionFailed("Input required and not supplied: path")
    if any(line.startswith(("!", "~")) for line in patterns):
        raise NotModelled(f"paths of an artifact: {patterns}")
    hidden = call.flag("include-hidden-files", default=False)
    files, bases = set[Path](), set[Path]()
    for pattern in patterns:
        parts = Path(os.path.normpath(pattern)).parts
        plain = list(itertools.takewhile(lambda part: not re.search(r"[*?[]", part), parts))
        base, rest = call.workspace.joinpath(*plain), parts[len(plain) :]
        bases.add(base)
        for match in base.glob("/".join(rest)) if rest else (base,):
            # The base's own name may be hidden too; the folders above it are ignored.
            below = (f for f in _files(match) if hidden or not _is_hidden(f, base.parent))
            files.update(below)
    tops = sorted(it for it in bases if not bases & set(it.parents))
    if len(tops) > 1:
        return sorted(files), Path(os.path.commonpath(tops))
    return sorted(files), tops[0].parent if files == {tops[0]} else tops[0]


def _is_hidden(file: Path, above: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(above).parts)


def _files(top: Path) -> Iterator[Path]:
    if top.is_file():
        yield top
    # Follows links, except broken ones.
    for folder, _, names in os.walk(top, followlinks=True):
        yield from (path for name in names if (path := Path(folder, name)).is_file())


# ----- actions/download-artifact ------------------------------------------------------------


def _download(call: Call) -> Outputs:
    """Download an artifact into ``path``, over existing files."""
    name = call.inputs.get("name")
    if not name:
        raise NotModelled("a download of all artifacts")
    archive, about = call.artifacts / f"{name}.zip", call.artifacts / f"{name}.json"
    if not about.exists():
        raise ActionFailed(f"Unable to download artifact(s): Artifact not found for name: {name}")
    expected = json.loads(about.read_text())["digest"]
    if hashlib.sha256(archive.read_bytes()).hexdigest() != expected:
        _mismatch(call, name)
    folder = call.path("path")
    try:
        with zipfile.ZipFile(archive) as files:
            _check_inside(folder, files.namelist())
            files.extractall(folder)
    except (zipfile.BadZipFile, OSError) as error:
        raise ActionFailed(f"Unable to download and extract artifact: {error}") from None
    call.log(f"Artifact {name} was downloaded to {folder}")
    return {"download-path": str(folder)}


def _check_inside(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if not Path(os.path.normpath(folder / name)).is_relative_to(folder):
            raise ActionFailed(f"Malformed extraction path: {name}")


def _mismatch(call: Call, name: str) -> None:
    message = f"Artifact '{name}' digest validation failed. Please verify the integrity of it."
    match call.inputs.get("digest-mismatch", call.digest_mismatch):
        case "error":
            raise ActionFailed(message)
        case "warn":
            call.log(f"::warning::{message}")
        case "info":
            call.log(message)
        case "ignore":
            pass
        case other:
            raise ActionFailed(f"Invalid value for 'digest-mismatch': {other}")


# ----- this project's own action ------------------------------------------------------------


def _install(call: Call) -> Outputs:
    """Link the machine's environment as the workspace's. Creating one for each job would take
    minutes. Under act, the real action runs."""
    if not call.path("lock").is_file():
        raise ActionFailed(f"there is no lock file {call.inputs.get('lock')}")
    environment = call.workspace / ".venv"
    environment.mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (environment / part).symlink_to(Path(call.environ["READY_ENVIRONMENT"]) / part)
    return {}


# Each action with the inputs that are modelled.
_ACTIONS: Mapping[str, tuple[Iterable[str], Callable[[Call], Outputs]]] = {
    "actions/checkout": (
        ("ref", "path", "fetch-depth", "persist-credentials", "token"),
        _checkout,
    ),
    OWN_ACTION: (("lock",), _install),
    # Jobs use the interpreter on the base environment's PATH.
    "actions/setup-python": (("python-version",), lambda call: {}),
    "actions/upload-artifact": (
        ("name", "path", "if-no-files-found", "include-hidden-files", "retention-days"),
        _upload,
    ),
    "actions/download-artifact": (("name", "path", "digest-mismatch"), _download),
}

# Those of actions that a workflow pins.
INPUTS: Mapping[str, Iterable[str]] = {
    name: known for name, (known, _) in _ACTIONS.items() if name != OWN_ACTION
}
