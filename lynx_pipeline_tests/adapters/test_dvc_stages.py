"""Stages that work in a folder which a template in ``dvc.yaml`` names."""

from pathlib import Path

import pytest

from lynx_pipeline.adapters.dvc_files import AtCommit, OnDisk, find
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.adapters.test_dvc_files import lock, out, write
from lynx_pipeline_tests.support.places import git

MAKE = "stages:\n  make:\n    cmd: x\n    wdir: ${folder}\n"


@pytest.mark.parametrize(
    ("stage", "pipeline", "values"),
    [
        pytest.param("make", MAKE, {"params_dot_yaml": "folder: data/sets"}, id="params.yaml"),
        pytest.param("make", f"vars: [folder: data/sets]\n{MAKE}", {}, id="values in vars"),
        pytest.param(
            "make",
            f"vars: [a.toml]\n{MAKE}",
            {"a_dot_toml": 'folder = "data/sets"'},
            id="a file in vars",
        ),
        pytest.param(
            "make@no",
            "stages:\n  make:\n    foreach: {no: sets}\n    do: {wdir: 'data/${item}', cmd: x}\n",
            {},
            id="foreach",
        ),
        pytest.param(
            "make@sets-no",
            "stages:\n  make:\n    matrix: {at: [sets], in: [no]}\n    cmd: x\n"
            "    wdir: data/${item.at}\n",
            {},
            id="matrix",
        ),
        pytest.param(
            "make",
            "vars: [a: sets]\nstages:\n  make: {wdir: 'data/${a}', cmd: '${unknown}'}\n",
            {},
            id="an unknown value elsewhere",
        ),
    ],
)
def test_a_template_is_resolved_with_the_values_of_its_version(
    tmp_path: Path, stage: str, pipeline: str, values: dict[str, str]
) -> None:
    """On disk, and at a commit after the files on disk are gone."""
    record = lock(out("e.jsonl"), stage=stage)
    path = write(tmp_path, dvc_dot_lock=record, dvc_dot_yaml=pipeline, **values)
    found = find(path, OnDisk())
    assert (found.stage, found.output) == (stage, path)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "A project")
    for file in tmp_path.glob("*.*"):
        if file.is_file():
            file.unlink()
    assert find(path, AtCommit(tmp_path, "HEAD")) == found


@pytest.mark.parametrize("folder", ["", "pipelines"], ids=["near", "elsewhere"])
@pytest.mark.parametrize(
    "pipeline",
    [
        MAKE,
        f"vars: [missing.yaml]\n{MAKE}",
        f"vars: 7\n{MAKE}",
        "stages:\n  make: {foreach: '${folder}', do: {cmd: x, wdir: '${item}'}}\n",
    ],
)
def test_a_template_that_can_not_be_resolved_is_named(
    tmp_path: Path, folder: str, pipeline: str
) -> None:
    """It is not said that the data is not under DVC."""
    stage = "make@sets" if "foreach" in pipeline else "make"
    files = {"dvc.lock": lock(out("e.jsonl"), stage=stage), "dvc.yaml": pipeline}
    path = write(tmp_path)
    (tmp_path / folder).mkdir(exist_ok=True)
    for name, text in files.items():
        (tmp_path / folder / name).write_text(text)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    expected = r"dvc\.yaml: DVC could not resolve the template 'wdir: .*'dvc repro'"
    with pytest.raises(BadInput, match=expected) as caught:
        find(path, OnDisk())
    assert "\n" not in str(caught.value)


def test_an_item_that_was_removed_does_not_count(tmp_path: Path) -> None:
    """DVC keeps its record."""
    pipeline = "stages:\n  make: {foreach: [other], do: {cmd: x, wdir: 'data/${item}'}}\n"
    record = lock(out("e.jsonl"), stage="make@sets")
    with pytest.raises(BadInput, match="is not under DVC"):
        find(write(tmp_path, dvc_dot_lock=record, dvc_dot_yaml=pipeline), OnDisk())
