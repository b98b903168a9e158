"""Which file tracks a data file, read as plain YAML."""

from pathlib import Path

import pytest
import yaml

from lynx_pipeline.adapters.dvc import repository
from lynx_pipeline.adapters.dvc_files import OnDisk, Tracked, find
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.places import git

MD5, OTHER = "a1" * 16, "b2" * 16
FOLDER = f"{MD5}.dir"


def write(root: Path, **files: str) -> Path:
    """A DVC repository with these files, whose names have ``__`` for a slash, and a ``dvc.yaml``
    for each ``dvc.lock``. Returns the path of its eval set."""
    (root / ".dvc").mkdir(parents=True)
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for lock_file in root.rglob("dvc.lock"):
        pipeline = lock_file.with_name("dvc.yaml")
        if not pipeline.exists() and isinstance(
            values := yaml.safe_load(lock_file.read_text()), dict
        ):
            stages = values.get("stages", {}) if "schema" in values else values
            names = {str(name).partition("@")[0]: {"cmd": "x"} for name in stages}
            pipeline.write_text(yaml.safe_dump({"stages": names}))
    return root / "data/sets/e.jsonl"


def out(path: str, md5: str = MD5, more: str = "") -> str:
    """An output, indented as in ``dvc.lock``."""
    return f"    - path: {path}\n      md5: {md5}\n      hash: md5\n{more}"


def lock(*outs: str, stage: str = "make") -> str:
    """A ``dvc.lock`` with one stage."""
    return f"schema: '2.0'\nstages:\n  {stage}:\n    cmd: x\n    outs:\n{''.join(outs)}"


def dvc(path: str, md5: str = MD5) -> str:
    """A ``.dvc`` file."""
    return f"outs:\n- md5: {md5}\n  hash: md5\n  path: {path}\n"


@pytest.mark.parametrize(
    ("files", "record", "output", "member"),
    [
        pytest.param(
            {"data__sets__e_dot_jsonl_dot_dvc": dvc("e.jsonl")},
            "data/sets/e.jsonl.dvc",
            "data/sets/e.jsonl",
            None,
            id="own .dvc file",
        ),
        pytest.param(
            {"data__sets__e_dot_jsonl_dot_dvc": f"wdir: ..\n{dvc('sets/e.jsonl')}"},
            "data/sets/e.jsonl.dvc",
            "data/sets/e.jsonl",
            None,
            id="own .dvc file with a working folder",
        ),
        pytest.param(
            {"data__sets_dot_dvc": dvc("sets", FOLDER)},
            "data/sets.dvc",
            "data/sets",
            "e.jsonl",
            id="added folder",
        ),
        pytest.param(
            {"data_dot_dvc": dvc("data", FOLDER)},
            "data.dvc",
            "data",
            "sets/e.jsonl",
            id="added folder two levels up",
        ),
        pytest.param(
            {"dvc_dot_lock": lock(out("x"), out("data/sets/e.jsonl"))},
            "dvc.lock",
            "data/sets/e.jsonl",
            None,
            id="output of a stage",
        ),
        pytest.param(
            {"data__dvc_dot_lock": lock(out("sets", FOLDER))},
            "data/dvc.lock",
            "data/sets",
            "e.jsonl",
            id="folder made by a stage",
        ),
        pytest.param(
            {"dvc_dot_lock": lock(out("data/sets/e.jsonl")).partition("stages:\n")[2]},
            "dvc.lock",
            "data/sets/e.jsonl",
            None,
            id="DVC 1",
        ),
        pytest.param(
            {
                "dvc_dot_lock": lock(out("sets/e.jsonl"), stage="make@en"),
                "dvc_dot_yaml": "stages:\n  make:\n    foreach: [en]\n    do: {wdir: data}\n",
            },
            "dvc.lock",
            "data/sets/e.jsonl",
            None,
            id="one of several stages, with a working folder",
        ),
        pytest.param(
            {
                "dvc_dot_lock": lock(out("data", FOLDER)),
                "data__sets__e_dot_jsonl_dot_dvc": dvc("e.jsonl"),
            },
            "data/sets/e.jsonl.dvc",
            "data/sets/e.jsonl",
            None,
            id="the .dvc file comes first",
        ),
    ],
)
def test_the_record_is_found(
    tmp_path: Path, files: dict[str, str], record: str, output: str, member: str | None
) -> None:
    """Wherever DVC may write it."""
    found = find(write(tmp_path, **files), OnDisk())
    assert (found.record, found.output) == (tmp_path / record, tmp_path / output)
    assert (found.member, found.md5) == (member, FOLDER if member else MD5)
    assert not found.legacy


def test_a_record_that_lists_a_folders_files_says_the_files_own_hash(tmp_path: Path) -> None:
    """As DVC writes it for a remote with versions, where the folder itself has no hash."""
    files = f"      files:\n      - relpath: e.jsonl\n        md5: {OTHER}\n"
    path = write(tmp_path, data__dvc_dot_lock=lock(out("sets", "null", files)))
    assert find(path, OnDisk()).member_md5 == OTHER


def test_hashes_of_dvc_2_and_remotes_are_recognized(tmp_path: Path) -> None:
    """Such a record does not name its hash."""
    text = dvc("e.jsonl").replace("  hash: md5\n", "  remote: far\n")
    found: Tracked = find(write(tmp_path, data__sets__e_dot_jsonl_dot_dvc=text), OnDisk())
    assert (found.legacy, found.remote) == (True, "far")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({}, "not under DVC", id="nothing"),
        pytest.param({"dvc_dot_lock": lock(out("data/other"))}, "not under DVC", id="other output"),
        pytest.param({"dvc_dot_lock": "<<<<<<<\n"}, "dvc.lock: expected", id="merge conflict"),
        pytest.param({"dvc_dot_lock": "[1]"}, "dvc.lock: expected", id="a list"),
        pytest.param({"dvc_dot_lock": "schema: x\nstages: [1]"}, "lock: expected", id="odd stages"),
        pytest.param(
            {"dvc_dot_lock": lock(out("data/sets/e.jsonl", FOLDER))},
            "expected the md5 of e.jsonl in the stage 'make'",
            id="a folder's hash",
        ),
        pytest.param(
            {"dvc_dot_lock": lock(out("data", MD5))},
            "expected the md5 of data in the stage",
            id="a file's hash for a folder",
        ),
        pytest.param(
            {"data__sets_dot_dvc": dvc("sets")}, "the folder sets, with its md5", id="odd folder"
        ),
        pytest.param(
            {"data_dot_dvc": dvc("other", FOLDER)}, "the folder data, with", id="another folder"
        ),
    ],
)
def test_an_unusable_record_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    """The message names the file, or what to run."""
    with pytest.raises(BadInput, match=message):
        find(write(tmp_path, **files), OnDisk())


def test_the_repository_is_the_nearest_one_in_the_git_repository(tmp_path: Path) -> None:
    """Neither one above it, nor one that belongs to another git repository."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "sub/.git").mkdir(parents=True)
    assert repository(tmp_path / "sub/data/x") is None
    assert repository(tmp_path / "data/x") == tmp_path
    (tmp_path / "sub/svc/.dvc").mkdir(parents=True)
    assert repository(tmp_path / "sub/svc/data/x") == tmp_path / "sub/svc"


def test_a_stage_that_was_renamed_does_not_count(tmp_path: Path) -> None:
    """DVC keeps its record. An item of ``foreach`` that was removed can't be told from the others,
    so two records are refused."""
    old = f"{lock(out('data/sets/e.jsonl', OTHER), stage='old')}"
    both = old + f"  make:\n    cmd: x\n    outs:\n{out('data/sets/e.jsonl')}"
    path = write(tmp_path, dvc_dot_lock=both, dvc_dot_yaml="stages:\n  make:\n    cmd: x\n")
    found = find(path, OnDisk())
    assert (found.stage, found.md5) == ("make", MD5)
    (tmp_path / "dvc.yaml").write_text("stages:\n  make: {cmd: x}\n  old: {cmd: x}\n")
    with pytest.raises(
        BadInput, match=r"2 stages are recorded to make it \(.*dvc.lock:old, .*make"
    ):
        find(path, OnDisk())
    (tmp_path / "dvc.yaml").unlink()
    with pytest.raises(BadInput, match="is not under DVC"):
        find(path, OnDisk())


def test_only_a_file_that_git_knows_is_searched_for(tmp_path: Path) -> None:
    """A bundle that was downloaded into the working tree may contain a ``dvc.lock``, too."""
    path = write(tmp_path, pipelines__dvc_dot_lock=lock(out("../data/sets/e.jsonl")))
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "pipelines")
    code = tmp_path / "candidate/bundle/code"
    code.mkdir(parents=True)
    (code / "dvc.lock").write_text(lock(out("../../../data/sets/e.jsonl", OTHER)))
    (code / "dvc.yaml").write_text("stages:\n  make: {cmd: x}\n")
    assert find(path, OnDisk()).record == tmp_path / "pipelines/dvc.lock"
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples/dvc.lock").write_text("[")
    git(tmp_path, "add", "samples")
    assert find(path, OnDisk()).md5 == MD5


@pytest.mark.parametrize(
    ("pipeline", "digits"),
    [
        ("stages: {make: {foreach: [1], do: text}}", MD5),
        ("stages: {make: text}", MD5),
        ("stages: {make: {wdir: [1]}}", MD5),
        ("stages: {make: {cmd: x}}", "0x" + "f" * 5000),
    ],
)
def test_odd_files_are_never_a_traceback(tmp_path: Path, pipeline: str, digits: str) -> None:
    """YAML may hold a number or a list anywhere."""
    path = write(
        tmp_path, dvc_dot_lock=lock(out("data/sets/e.jsonl", digits)), dvc_dot_yaml=pipeline
    )
    try:
        assert find(path, OnDisk()).md5 == MD5
    except BadInput as error:
        assert "dvc.lock: expected" in str(error)
        assert digits != MD5
