"""The workflows for somebody's repository: this project's own, with its own installation.

In this project the jobs run ``./dev``, which installs a clone. Elsewhere they install the wheel
that the repository contains, and the packages of the lock files beside it.
"""

import json
import re
from importlib.metadata import PackageNotFoundError, distribution
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


def workflow_files(root: Path, model: str, wheel: Path) -> list[File]:
    """The workflows, and what their jobs install.

    Raises:
        BadInput: ``wheel`` is not this version of lynx-pipeline.
    """
    _check_wheel(wheel)
    deploy = _adapted(_DEPLOY).replace("grammar-tutor", model)
    baseline = _adapted(_BASELINE)
    locks = {_LOCK, *re.findall(r"requirements-[a-z]+\.lock", deploy + baseline)}
    return [
        File(root / deploy_workflow(model), deploy.encode()),
        File(root / _BASELINE, baseline.encode()),
        File(root / FOLDER / "install", _INSTALL.encode(), executable=True),
        *(File(root / FOLDER / name, _own(name)) for name in sorted(locks)),
        File(root / FOLDER / wheel.name, wheel.read_bytes()),
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
    version = distribution(_DISTRIBUTION).version
    name = f"lynx_pipeline-{version}-"
    try:
        with ZipFile(wheel) as file:
            known = f"{name[:-1]}.dist-info/METADATA" in file.namelist()
    except (OSError, BadZipFile):
        known = False
    if not known or not wheel.name.startswith(name) or wheel.suffix != ".whl":
        raise BadInput(
            f"{wheel} is not the wheel of lynx-pipeline {version}, which is installed here. Name "
            "the file that you installed: --wheel FILE."
        )


def _adapted(name: str) -> str:
    text = _own(name).decode().replace("docs/ci.md", "lynx-pipeline's docs/ci.md")
    return text.replace("./dev install", f"{FOLDER}/install").replace("./dev run ", ".venv/bin/")


def _own(name: str) -> bytes:
    packaged = _PACKAGED / name
    return (packaged if packaged.is_file() else _PACKAGE.parent / name).read_bytes()
