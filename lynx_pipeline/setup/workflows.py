"""The workflows for somebody's repository: this project's own, with another installation.

In this project the jobs use its action as it is checked out. Elsewhere they use it at a commit, or
install the wheel that the repository contains and the packages of the lock files beside it.
"""

import json
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from urllib.parse import unquote, urlsplit
from zipfile import BadZipFile, ZipFile

import lynx_pipeline
from lynx_pipeline.errors import BadInput
from lynx_pipeline.setup.files import File

FOLDER = ".github/lynx-pipeline"
WORKFLOWS = ".github/workflows"
_DEPLOY, _BASELINE = f"{WORKFLOWS}/deploy-grammar-tutor.yml", f"{WORKFLOWS}/baseline.yml"
_OWNERS = ".github/CODEOWNERS"
_LOCK = "requirements.lock"
# How this project's own workflows use its action.
_USES = "uses: ./ # zizmor: ignore[self-repository]\n"
# In the wheel; in a clone they are where they are.
_PACKAGE = Path(lynx_pipeline.__file__).parent
_PACKAGED = _PACKAGE / "repository"
_DISTRIBUTION = "lynx-pipeline"

_INSTALL = f"""\
#!/bin/sh
# Installs lynx-pipeline into .venv, from the wheel in this folder, and the packages of a lock file
# of this folder, whose hashes uv checks: install [LOCKFILE]
set -eu
here={FOLDER}
lock="$here/${{1:-{_LOCK}}}"
python3 -m venv --without-pip .venv
sed -n '/^uv==/,/[^\\\\]$/p' "$lock" >.venv/uv.lock
python3 -m pip --python .venv install --quiet --require-hashes -r .venv/uv.lock
.venv/bin/uv pip install --quiet --no-config --python .venv --require-hashes -r "$lock"
.venv/bin/uv pip install --quiet --no-config --python .venv --no-deps "$here"/lynx_pipeline-*.whl
"""


def deploy_workflow(model: str) -> str:
    """The path of the deploy workflow in a repository with this model."""
    return f"{WORKFLOWS}/deploy-{model}.yml"


@dataclass(frozen=True, slots=True)
class Action:
    """This project's action: ``OWNER/REPO@COMMIT``.

    Raises:
        BadInput: it has another form. A branch or a tag could be moved after the review.
    """

    reference: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+@[0-9a-f]{40}", self.reference):
            raise BadInput(
                f"--action {self.reference!r:.120}: expected OWNER/REPO@COMMIT with the 40 digits "
                "of a commit, because a branch or tag can be moved after the review."
            )


def action_in(workflow: bytes) -> Action | None:
    """The action that the jobs of a workflow install with; None if they don't."""
    found = re.search(rb"uses: (\S+@[0-9a-f]{40}) # v\S+\n +with:\n +lock: ", workflow)
    return None if found is None else Action(found[1].decode())


def workflow_files(root: Path, model: str, source: Path | Action) -> list[File]:
    """The workflows, and what their jobs install: the action, or a wheel, which is added.

    Raises:
        BadInput: the wheel is not this version of lynx-pipeline.
    """
    own = _own(_DEPLOY).decode().replace("grammar-tutor", model), _own(_BASELINE).decode()
    deploy, baseline = (_adapted(text, source) for text in own)
    workflows = [
        File(root / deploy_workflow(model), deploy.encode()),
        File(root / _BASELINE, baseline.encode()),
    ]
    if isinstance(source, Action):
        return workflows
    _check_wheel(source)
    locks = {_LOCK, *re.findall(r"requirements-[a-z]+\.lock", deploy + baseline)}
    return [
        *workflows,
        File(root / FOLDER / "install", _INSTALL.encode(), executable=True),
        *(File(root / FOLDER / name, _own(name)) for name in sorted(locks)),
        File(root / FOLDER / source.name, source.read_bytes()),
    ]


def owners_file(root: Path, model: str, baseline: str, owners: str) -> File:
    """``CODEOWNERS`` with ``owners`` for everything: names after @, separated by spaces."""
    text = _own(_OWNERS).decode().replace("/eval_baseline.json", "/" + baseline.replace(" ", "\\ "))
    text = text.replace(Path(_DEPLOY).name, Path(deploy_workflow(model)).name)
    rules = re.sub(r"(?m)^([^#\n].*)@OWNER$", rf"\1{owners}", text)
    return File(root / _OWNERS, rules.encode())


def installed_wheel() -> Path | None:
    """The wheel file that this installation was made from; None if it was not, or is gone."""
    try:
        installed = distribution(_DISTRIBUTION)
    except PackageNotFoundError:
        return None
    url = urlsplit(json.loads(installed.read_text("direct_url.json") or "{}").get("url", ""))
    path = Path(unquote(url.path))
    return path if path.suffix == ".whl" and url.scheme == "file" and path.is_file() else None


def _check_wheel(wheel: Path) -> None:
    installed = version(_DISTRIBUTION)
    name = f"lynx_pipeline-{installed}-"
    try:
        with ZipFile(wheel) as file:
            known = f"{name[:-1]}.dist-info/METADATA" in file.namelist()
    except (OSError, BadZipFile):
        known = False
    if not known or not wheel.name.startswith(name) or wheel.suffix != ".whl":
        raise BadInput(
            f"{wheel} is not the wheel of lynx-pipeline {installed}, which is installed here. Name "
            "the file that you installed: --wheel FILE."
        )


def _adapted(text: str, source: Path | Action) -> str:
    text = text.replace("docs/ci.md", "lynx-pipeline's docs/ci.md")
    if isinstance(source, Action):
        return text.replace(_USES, f"uses: {source.reference} # v{version(_DISTRIBUTION)}\n")
    return re.sub(rf"{re.escape(_USES)} +with:\n +lock: ", f"run: {FOLDER}/install ", text)


def _own(name: str) -> bytes:
    packaged = _PACKAGED / name
    return (packaged if packaged.is_file() else _PACKAGE.parent / name).read_bytes()
