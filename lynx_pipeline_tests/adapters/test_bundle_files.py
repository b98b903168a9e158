"""The canonical sha of real folders: what changes it, what does not, and what is refused."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.domain.bundle import SAVE_ONLY_FIELDS
from lynx_pipeline.errors import BadInput, SystemFailed
from lynx_pipeline_tests.support.builders import bundle, sha256

Change = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small bundle."""
    made = bundle(tmp_path / "bundle")
    (made / "weights.bin").write_bytes(b"\x00\x01\x02")
    return made


def sha(folder: Path) -> str:
    """The folder's canonical sha."""
    return read_bundle(folder).canonical_sha


def test_the_sha_of_a_fixed_bundle_is_the_golden_one(tmp_path: Path) -> None:
    """Computed by hand from the rule. The identity of every promoted version depends on it."""
    made = tmp_path / "b"
    (made / "é").mkdir(parents=True)
    (made / "MLmodel").write_text("run_id: x\nflavors:\n  python_function: {loader_module: m}\n")
    (made / "é" / "w").write_bytes(b"123")
    mlmodel = b'{"flavors":{"python_function":{"loader_module":"m"}}}'
    rows = (
        f'[{{"path":"MLmodel","sha256":"{sha256(mlmodel)}","size":{len(mlmodel)}}},'
        f'{{"path":"é/w","sha256":"{sha256(b"123")}","size":3}}]'
    )
    assert sha(made) == sha256(rows.encode())
    assert sha(made) == "0e828f5559466a700143ddd27795bd182b3b1ae4cf9f8fe6714fea85faba71f8"
    size = (made / "MLmodel").stat().st_size + 3
    assert (read_bundle(made).files, read_bundle(made).size) == (2, size)


def test_the_digest_of_a_fixed_bundle_is_the_golden_one(tmp_path: Path) -> None:
    """Computed by hand from the rule: all bytes, all folders, and whether a file is executable."""
    made = tmp_path / "b"
    (made / "é").mkdir(parents=True)
    (made / "z").mkdir()
    (made / "MLmodel").write_bytes(b"flavors: {}\n")
    (made / "é" / "w").write_bytes(b"123")
    (made / "é" / "w").chmod(0o700)
    mlmodel = sha256((made / "MLmodel").read_bytes())
    rows = (
        f'[{{"executable":false,"path":"MLmodel","sha256":"{mlmodel}",'
        f'"size":12}},{{"path":"z"}},{{"path":"é"}},'
        f'{{"executable":true,"path":"é/w","sha256":"{sha256(b"123")}","size":3}}]'
    )
    assert read_bundle(made).digest == sha256(rows.encode())
    assert (
        read_bundle(made).digest
        == "f4e2ce344741fcf94713ba264d47b27b4bc7fdc35f1834bd164d7980ba21a962"
    )


def _encode(folder: Path) -> None:
    file = folder / "MLmodel"
    file.write_text(file.read_text(), encoding="utf-16")


def _add_duplicate_key(folder: Path) -> None:
    file = folder / "MLmodel"
    file.write_text("run_id: x\n" + file.read_text())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: rewrite(f, run_id="another"), id="label"),
        pytest.param(
            lambda f: (f / "MLmodel").write_text("# x\n" + (f / "MLmodel").read_text()),
            id="comment",
        ),
        pytest.param(_encode, id="encoding"),
        pytest.param(_add_duplicate_key, id="duplicate key"),
        pytest.param(lambda f: (f / "empty").mkdir(), id="empty folder"),
        pytest.param(lambda f: (f / "code/a/b").mkdir(parents=True), id="nested empty folders"),
        pytest.param(lambda f: (f / "weights.bin").chmod(0o755), id="executable"),
    ],
)
def test_the_same_checkpoint_with_other_bytes_has_another_digest(
    folder: Path, change: Change
) -> None:
    """A model can read all of this, and behave as it says."""
    before = read_bundle(folder)
    change(folder)
    after = read_bundle(folder)
    assert after.canonical_sha == before.canonical_sha
    assert after.digest != before.digest


def test_another_notation_of_a_number_changes_the_digest(folder: Path) -> None:
    """YAML has several for one value."""
    rewrite(folder, metadata={"size": 16})
    before = read_bundle(folder)
    file = folder / "MLmodel"
    file.write_text(file.read_text().replace("16", "0x10"))
    after = read_bundle(folder)
    assert (after.canonical_sha, after.digest != before.digest) == (before.canonical_sha, True)


def test_times_and_permissions_of_others_do_not_change_the_digest(folder: Path) -> None:
    """A download may set them to anything."""
    before = read_bundle(folder).digest
    os.utime(folder / "weights.bin", (1, 1))
    (folder / "weights.bin").chmod(0o600)
    (folder / "code").chmod(0o700)
    assert read_bundle(folder).digest == before


def rewrite(folder: Path, **changes: object) -> None:
    """Change keys of ``MLmodel``."""
    file = folder / "MLmodel"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **changes}))


@pytest.mark.parametrize("field", SAVE_ONLY_FIELDS)
@pytest.mark.parametrize("value", ["another", None, ""])
def test_time_and_place_of_saving_do_not_change_the_sha(
    folder: Path, field: str, value: str | None
) -> None:
    """Adding such a field does not change the sha either."""
    before = sha(folder)
    rewrite(folder, **{field: value})
    assert sha(folder) == before


@pytest.mark.parametrize("field", SAVE_ONLY_FIELDS)
def test_content_in_an_ignored_field_changes_the_sha(folder: Path, field: str) -> None:
    """Only labels are ignored: a value that could carry content changes the sha."""
    before = sha(folder)
    rewrite(folder, **{field: {"rules": ["he goed"]}})
    one = sha(folder)
    rewrite(folder, **{field: {"rules": ["he went"]}})
    assert len({before, one, sha(folder)}) == 3
    rewrite(folder, **{field: "payload" * 1000})
    assert sha(folder) not in {before, one}


def test_content_behind_an_alias_to_an_ignored_field_changes_the_sha(folder: Path) -> None:
    """The anchor is in run_id, which is ignored; the alias in another field is not."""
    shas = set()
    for loader in ("good", "evil"):
        text = f"run_id: &x {loader}\nflavors: {{python_function: {{loader_module: *x}}}}\n"
        (folder / "MLmodel").write_text(text)
        shas.add(sha(folder))
    assert len(shas) == 2


def test_layout_and_key_order_of_mlmodel_do_not_change_the_sha(folder: Path) -> None:
    """A different MLflow version may write the same keys in a different order."""
    before = sha(folder)
    values = yaml.safe_load((folder / "MLmodel").read_text())
    reverse = dict(reversed(list(values.items())))
    (folder / "MLmodel").write_text("# x\n" + yaml.safe_dump(reverse, sort_keys=False, indent=8))
    assert sha(folder) == before


def test_time_and_mode_of_a_file_do_not_change_the_sha(folder: Path) -> None:
    """A download may set both to anything."""
    before = sha(folder)
    os.utime(folder / "weights.bin", (1, 1))
    (folder / "weights.bin").chmod(0o600)
    assert sha(folder) == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: (f / "weights.bin").write_bytes(b"\x00\x01\x03"), id="edit"),
        pytest.param(lambda f: (f / "weights.bin").write_bytes(b""), id="empty"),
        pytest.param(lambda f: (f / "weights.bin").unlink(), id="remove"),
        pytest.param(lambda f: (f / "weights.bin").rename(f / "weights.bim"), id="rename"),
        pytest.param(lambda f: (f / "weights.bin").rename(f / "code/weights.bin"), id="move"),
        pytest.param(lambda f: (f / "code").rename(f / "Code"), id="rename a folder"),
        pytest.param(lambda f: (f / "more").write_bytes(b""), id="add an empty file"),
        pytest.param(lambda f: (f / ".hidden").write_bytes(b"x"), id="add a hidden file"),
        pytest.param(lambda f: (f / "code/MLmodel").write_bytes(b"{}"), id="MLmodel further down"),
        pytest.param(lambda f: rewrite(f, flavors={"x": {}}), id="different flavour"),
        pytest.param(lambda f: rewrite(f, Run_id="x"), id="field in a different case"),
        pytest.param(lambda f: rewrite(f, metadata={"run_id": "x"}), id="same name further down"),
    ],
)
def test_any_other_change_changes_the_sha(folder: Path, change: Change) -> None:
    """With a file changed, renamed, added or removed, it is a different bundle."""
    before = sha(folder)
    change(folder)
    assert sha(folder) != before


def test_swapping_two_files_changes_the_sha(folder: Path) -> None:
    """The bytes are the same, but under swapped names."""
    (folder / "other.bin").write_bytes(b"other")
    before = sha(folder)
    (folder / "weights.bin").rename(folder / "x")
    (folder / "other.bin").rename(folder / "weights.bin")
    (folder / "x").rename(folder / "other.bin")
    assert sha(folder) != before


def _undecodable(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff")).write_bytes(b"")


def _undecodable_folder(folder: Path) -> None:
    made = Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff"))
    made.mkdir()
    (made / "x").write_bytes(b"")


def _two_manifests(folder: Path) -> None:
    for path in (folder / "train_manifest.json", folder / "code" / "train_manifest.json"):
        path.write_text('{"parent_sha": "a"}')


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda f: (f / "l").symlink_to("MLmodel"), "a symlink", id="symlink"),
        pytest.param(lambda f: (f / "l").symlink_to("/etc"), "a symlink", id="symlink out"),
        pytest.param(lambda f: (f / "l").symlink_to("nowhere"), "a symlink", id="dangling"),
        pytest.param(lambda f: os.mkfifo(f / "pipe"), "neither a file nor", id="fifo"),
        pytest.param(_undecodable, "not UTF-8", id="undecodable name"),
        pytest.param(_undecodable_folder, "not UTF-8", id="undecodable folder"),
        pytest.param(
            lambda f: (f / "code/__pycache__").mkdir(), "compiled Python", id="compiled Python"
        ),
        pytest.param(_two_manifests, "2 train_manifest.json files", id="two manifests"),
        pytest.param(lambda f: (f / "MLmodel").unlink(), "not an MLflow model", id="no MLmodel"),
        pytest.param(
            lambda f: (f / "MLmodel").rename(f / "mlmodel"),
            "not an MLflow model",
            id="different case",
        ),
        pytest.param(lambda f: (f / "MLmodel").write_text("["), "not YAML", id="broken MLmodel"),
        pytest.param(lambda f: shutil.rmtree(f), "no bundle at", id="no folder"),
        pytest.param(
            lambda f: (f / "train_manifest.json").write_text('{"parent_sha": 5}'),
            "parent_sha",
            id="parent is a number",
        ),
        pytest.param(
            lambda f: (f / "train_manifest.json").write_text("[]"), "object", id="manifest a list"
        ),
    ],
)
def test_an_invalid_bundle_is_refused(folder: Path, change: Change, says: str) -> None:
    """The message names the problem, and a pipe without a writer does not block."""
    change(folder)
    with pytest.raises(BadInput, match=says):
        read_bundle(folder)


def test_the_parent_is_read_from_the_manifest_in_any_folder(folder: Path) -> None:
    """MLflow may store a model's files in a subfolder."""
    assert read_bundle(folder).parent_sha is None
    (folder / "code" / "train_manifest.json").write_text('{"parent_sha": "older", "x": 1}')
    assert read_bundle(folder).parent_sha == "older"


def test_a_vanishing_file_is_a_system_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not mean that the bundle is invalid."""
    real = os.scandir

    def scan_then_delete(path: Path) -> object:
        listed = list(real(path))
        (folder / "weights.bin").unlink(missing_ok=True)
        return iter(listed)

    monkeypatch.setattr(os, "scandir", scan_then_delete)
    with pytest.raises(SystemFailed, match="can't be read"):
        read_bundle(folder)
