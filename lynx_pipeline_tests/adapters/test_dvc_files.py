"""Which file tracks a data file, read as plain YAML."""

from pathlib import Path

import pytest

from lynx_pipeline.adapters.dvc import repository
from lynx_pipeline.adapters.dvc_files import OnDisk, Tracked, find
from lynx_pipeline.errors import BadInput

MD5, OTHER = "a1" * 16, "b2" * 16
FOLDER = f"{MD5}.dir"


def write(root: Path, **files: str) -> Path:
    """A DVC repository with these files, whose names have ``__`` for a slash. Returns the path of
    its eval set."""
    (root / ".dvc").mkdir(parents=True)
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
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
