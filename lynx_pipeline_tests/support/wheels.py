"""Handmade wheels, a uv configuration that finds only them, and this project's own wheel."""

import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from lynx_pipeline_tests.support import REPO
from lynx_pipeline_tests.support.builders import bundle


def wheel(
    folder: Path,
    name: str,
    files: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
    links: Mapping[str, str] | None = None,
) -> None:
    """Write version 1.0 of a distribution that contains ``files`` and symbolic ``links``."""
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    content = {
        **(files or {}),
        f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {each}\n" for each in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{info}/RECORD"
    content[record] = "".join(f"{path},,\n" for path in (*content, *(links or {}), record))
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        for path, text in content.items():
            file.writestr(path, text)
        for path, target in (links or {}).items():
            link = zipfile.ZipInfo(path)
            link.create_system, link.external_attr = 3, 0o120777 << 16
            file.writestr(link, target)


def our_wheel(folder: Path, clone: Path = REPO) -> Path:
    """Build this project's wheel in ``folder``, from ``clone``."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", str(clone)]
    subprocess.run([*build, "--outdir", str(folder)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def imitation(folder: Path) -> Path:
    """Write a wheel with this project's name and version, and nothing else."""
    name = f"lynx_pipeline-{version('lynx-pipeline')}"
    file = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr(f"{name}.dist-info/METADATA", "Name: lynx-pipeline\n")
    return file


def use_only_wheels(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let uv find only the wheels in ``folder``, and add an empty one for mlflow."""
    wheel(folder, "mlflow")
    config = folder.with_name("uv.toml")
    config.write_text(f'no-index = true\nfind-links = ["{folder}"]\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(config))
    monkeypatch.setenv("UV_CACHE_DIR", str(folder.with_name("uv-cache")))


def bundle_with(folder: Path, *requirements: str) -> Path:
    """A bundle with these requirements."""
    if not folder.exists():
        bundle(folder)
    (folder / "requirements.txt").write_text("\n".join(["mlflow==1.0", *requirements, ""]))
    return folder
