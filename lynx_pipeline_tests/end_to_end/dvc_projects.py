"""Projects as teams have them, made by DVC's own commands: each tracks its eval set in another way.

A builder makes the project in a new git repository and pushes its data. It returns the project's
folder inside that repository.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

from lynx_pipeline_tests.support import DVC_2, REPO
from lynx_pipeline_tests.support.builders import baseline_of, eval_items, eval_set, jsonl
from lynx_pipeline_tests.support.places import git

RAW = jsonl(eval_items())
Builder = Callable[[Path, str], Path]


def dvc(folder: Path, *arguments: str) -> None:
    """Run a command of DVC in ``folder``: in this process, since importing DVC takes seconds."""
    from dvc.cli import main

    with chdir(folder):
        assert main(list(arguments)) == 0, arguments


def start(root: Path, remote: str) -> None:
    """A git repository with DVC, whose default remote is ``remote``."""
    root.mkdir(parents=True)
    git(root, "init", "--quiet", "--initial-branch=main")
    dvc(root, "init", "-q")
    dvc(root, "remote", "add", "-q", "-d", "team", remote)


def write_project(root: Path, eval_path: str, pyproject: str = "") -> None:
    """The files of a project besides its eval set."""
    (root / Path(eval_path).parent).mkdir(parents=True, exist_ok=True)
    (root / "pyproject.toml").write_text(
        f'[tool.lynx_pipeline]\nmodel = "tiny"\neval_set = "{eval_path}"\n'
        f'baseline = "eval_baseline.json"\n{pyproject}'
    )
    shutil.copy(REPO / "dagster.yaml", root)
    (root / "eval_baseline.json").write_text(json.dumps(baseline_of(eval_set())))
    with (root / ".gitignore").open("a") as ignored:
        ignored.write("/.lynx/\n")


def finish(root: Path) -> None:
    """Push the data and commit everything."""
    dvc(root, "push", "-q")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "A project")


def _own(root: Path, remote: str) -> Path:
    start(root, remote)
    write_project(root, "data/eval.jsonl")
    (root / "data/eval.jsonl").write_bytes(RAW)
    dvc(root, "add", "-q", "data/eval.jsonl")
    finish(root)
    return root


def _subfolder(root: Path, remote: str) -> Path:
    start(root, remote)
    write_project(root / "services/tutor", "data/eval.jsonl")
    (root / "services/tutor/data/eval.jsonl").write_bytes(RAW)
    dvc(root / "services/tutor", "add", "-q", "data/eval.jsonl")
    finish(root)
    return root / "services/tutor"


def _subfolder_stage(root: Path, remote: str) -> Path:
    """The pipeline is at the root of the repository, above the project."""
    start(root, remote)
    write_project(root / "svc", "data/eval.jsonl")
    _stage(root, "svc/data/eval.jsonl", "source.jsonl")
    finish(root)
    return root / "svc"


def _stage_output(root: Path, remote: str) -> Path:
    start(root, remote)
    write_project(root, "data/eval.jsonl")
    _stage(root, "data/eval.jsonl", "source.jsonl")
    finish(root)
    return root


def _stage_folder(root: Path, remote: str) -> Path:
    """A stage makes a folder with more than the eval set."""
    start(root, remote)
    write_project(root, "data/sets/eval.jsonl")
    (root / "source.jsonl").write_bytes(RAW)
    command = "mkdir -p data/sets && cp source.jsonl data/sets/eval.jsonl && date > data/sets/when"
    dvc(root, "stage", "add", "-q", "-n", "make", "-d", "source.jsonl", "-o", "data/sets", command)
    dvc(root, "repro", "-q")
    finish(root)
    return root


def _pipeline_elsewhere(root: Path, remote: str) -> Path:
    """The pipeline is in a folder beside the data, and works in the folder above."""
    start(root, remote)
    write_project(root, "data/eval.jsonl")
    (root / "pipelines/make").mkdir(parents=True)
    (root / "source.jsonl").write_bytes(RAW)
    (root / "pipelines/make/dvc.yaml").write_text(
        "stages:\n  make:\n    wdir: ../..\n    cmd: cp source.jsonl data/eval.jsonl\n"
        "    deps: [source.jsonl]\n    outs: [data/eval.jsonl]\n"
    )
    dvc(root / "pipelines/make", "repro", "-q")
    finish(root)
    return root


def _working_folder_from_vars(root: Path, remote: str) -> Path:
    """The stage works in a folder that ``params.yaml`` names."""
    start(root, remote)
    write_project(root, "data/eval.jsonl")
    (root / "source.jsonl").write_bytes(RAW)
    (root / "params.yaml").write_text("folders:\n  data: data\n")
    (root / "dvc.yaml").write_text(
        "stages:\n  make:\n    wdir: ${folders.data}\n    cmd: cp ../source.jsonl eval.jsonl\n"
        "    deps: [../source.jsonl]\n    outs: [eval.jsonl]\n"
    )
    dvc(root, "repro", "-q")
    finish(root)
    return root


def _foreach_with_working_folder(root: Path, remote: str) -> Path:
    """Two stages of one template. One of them works in a folder that YAML 1.1 reads as False."""
    start(root, remote)
    write_project(root, "data/no/eval.jsonl")
    (root / "source.jsonl").write_bytes(RAW)
    (root / "data/en").mkdir()
    (root / "dvc.yaml").write_text(
        "stages:\n  make:\n    foreach: [en, no]\n    do:\n      wdir: data/${item}\n"
        "      cmd: cp ../../source.jsonl eval.jsonl\n"
        "      deps: [../../source.jsonl]\n      outs: [eval.jsonl]\n"
    )
    dvc(root, "repro", "-q")
    finish(root)
    return root


def _added_folder(root: Path, remote: str) -> Path:
    start(root, remote)
    write_project(root, "data/eval/sets/eval.jsonl")
    (root / "data/eval/sets/eval.jsonl").write_bytes(RAW)
    (root / "data/eval/other.txt").write_text("something else\n")
    dvc(root, "add", "-q", "data/eval")
    finish(root)
    return root


def _own_remote(root: Path, remote: str) -> Path:
    """The output names its remote, and there is no default."""
    start(root, remote)
    dvc(root, "config", "-q", "--unset", "core.remote")
    write_project(root, "data/eval.jsonl")
    (root / "data/eval.jsonl").write_bytes(RAW)
    dvc(root, "add", "-q", "data/eval.jsonl")
    record = root / "data/eval.jsonl.dvc"
    record.write_text(record.read_text().replace("  path:", "  remote: team\n  path:"))
    finish(root)
    return root


def _import(root: Path, remote: str) -> Path:
    """From another repository, which alone has the data: DVC does not push an import."""
    source = _own(root.with_name("source"), f"{remote}-of-source")
    start(root, remote)
    write_project(root, "data/eval.jsonl")
    dvc(root, "import", "-q", str(source), "data/eval.jsonl", "-o", "data/eval.jsonl")
    finish(root)
    assert not Path(remote).exists()
    return root


def _import_of_a_folder(root: Path, remote: str) -> Path:
    source = _added_folder(root.with_name("source"), f"{remote}-of-source")
    start(root, remote)
    write_project(root, "data/eval/sets/eval.jsonl")
    shutil.rmtree(root / "data/eval")
    dvc(root, "import", "-q", str(source), "data/eval", "-o", "data/eval")
    finish(root)
    return root


def _import_url(root: Path, remote: str) -> Path:
    """From a file that is no longer there. DVC pushes it like any other."""
    start(root, remote)
    write_project(root, "data/eval.jsonl")
    source = root.with_name("download.jsonl")
    source.write_bytes(RAW)
    dvc(root, "import-url", "-q", str(source), "data/eval.jsonl")
    finish(root)
    source.unlink()
    return root


def _dvc_2(eval_path: str) -> Builder:
    """A builder of a project that DVC 2 left, whose eval set is at ``eval_path``."""

    def build(root: Path, remote: str) -> Path:
        shutil.copytree(DVC_2 / "project", root)
        shutil.copytree(DVC_2 / "remote", remote)
        git(root, "init", "--quiet", "--initial-branch=main")
        write_project(root, eval_path)
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--message", "A project")
        return root

    return build


def _stage(root: Path, output: str, source: str) -> None:
    (root / source).write_bytes(RAW)
    command = f"cp {source} {output}"
    dvc(root, "stage", "add", "-q", "-n", "make", "-d", source, "-o", output, command)
    dvc(root, "repro", "-q")


BUILDERS: dict[str, Builder] = {
    "own .dvc file": _own,
    "project in a subfolder": _subfolder,
    "project below its pipeline": _subfolder_stage,
    "output of a stage": _stage_output,
    "in a folder made by a stage": _stage_folder,
    "pipeline in another folder": _pipeline_elsewhere,
    "wdir from vars": _working_folder_from_vars,
    "foreach with wdir": _foreach_with_working_folder,
    "in an added folder": _added_folder,
    "remote of its own": _own_remote,
    "import": _import,
    "import of a folder": _import_of_a_folder,
    "import-url": _import_url,
    "DVC 2": _dvc_2("file/eval.jsonl"),
    "in a folder added by DVC 2": _dvc_2("folder/sets/eval.jsonl"),
    "output of a stage of DVC 2": _dvc_2("stage/eval.jsonl"),
}
