"""The stages of a ``dvc.yaml``: which there are, and the folder that each one's outputs are in.

A working folder may be a template such as ``wdir: ${data.folder}``. DVC's own code resolves it,
with ``params.yaml`` and the files under ``vars`` of the same version of the project.
"""

import io
import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lynx_pipeline.adapters.dvc import logged
from lynx_pipeline.domain.text import one_line
from lynx_pipeline.errors import BadInput, LynxError, missing_package

Read = Callable[[Path], bytes | None]


def working_folder(pipeline: Path, stages: Mapping[str, Any], name: str, read: Read) -> Path | None:
    """The folder that the outputs of the stage ``name`` are relative to; None if there is no such
    stage. ``stages`` are those in ``pipeline``, a ``dvc.yaml``, and ``read`` reads a file.

    Raises:
        BadInput: its template can't be resolved.
    """
    group = name.partition("@")[0]  # of a stage that foreach or matrix makes
    if group not in stages:
        return None
    stage = stages[group]
    body = stage.get("do", stage) if isinstance(stage, dict) else {}
    working = body.get("wdir", ".") if isinstance(body, dict) else "."
    if not isinstance(working, str):
        working = "."
    if "${" in working:
        return _resolved(pipeline, working, name, read)
    return pipeline.parent / working


def _resolved(pipeline: Path, template: str, name: str, read: Read) -> Path | None:
    """The working folder that DVC makes of ``template``; None if no item of ``foreach`` or
    ``matrix`` makes the stage ``name``."""
    try:
        with logged():
            from dvc.parsing import DataResolver
            from dvc.utils.serialize import parse_yaml

            # Not as PyYAML reads it, to which the item 'no' is False.
            values = parse_yaml((read(pipeline) or b"").decode(), str(pipeline))
            resolver = DataResolver(_Project(read), str(pipeline.parent), _without_outputs(values))
            if not resolver.has_key(name):
                return None
            return pipeline.parent / str(resolver.resolve_one(name)[name]["wdir"])
    except LynxError:
        raise
    except Exception as error:  # DVC lets those of YAML and of Python through
        if isinstance(error, ModuleNotFoundError) and (missing := missing_package(error)):
            raise missing from None
        raise BadInput(
            f"{pipeline}: DVC could not resolve the template 'wdir: {one_line(template)}' of the "
            f"stage {name!r}, so it is unknown which files the stage makes: {one_line(error)}. "
            "Correct the template, or the file with its values, and run 'dvc repro'."
        ) from None


def _without_outputs(values: Any) -> dict[str, Any]:
    """``dvc.yaml`` with what decides the working folders. An error elsewhere does not matter."""

    def reduced(stage: Any) -> dict[str, Any]:
        kept = {key: stage[key] for key in ("foreach", "matrix", "wdir") if key in stage}
        return kept | ({"do": reduced(stage["do"])} if "do" in stage else {})

    stages = {name: reduced(stage) for name, stage in values["stages"].items()}
    return {"vars": values.get("vars", []), "stages": stages}


class _Project:
    """What DVC's resolver needs of a repository: its files, read by ``read``."""

    config: Mapping[str, Any] = {}

    def __init__(self, read: Read) -> None:
        from dvc.fs import LocalFileSystem

        def found(path: str) -> bytes | None:  # DVC's paths are relative to the current folder
            return read(Path(posixpath.normpath(Path(path).absolute())))

        class Files(LocalFileSystem):  # type: ignore[misc]  # DVC has no types
            def exists(self, path: str, **_: Any) -> bool:
                return found(path) is not None

            def isdir(self, _: str) -> bool:
                return False

            def open(self, path: str, **_: Any) -> io.StringIO:
                return io.StringIO((found(path) or b"").decode())

        self.fs = Files()
