"""Changes of a bundle that make it hostile: each must be refused before it costs anything."""

import os
from collections.abc import Callable
from pathlib import Path

MIB = 64  # the limit on the whole bundle to test with

Change = Callable[[Path], object]


def _hole(folder: Path, name: str) -> None:
    (folder / name).touch()
    os.truncate(folder / name, 4 << 30)


def _long_mlmodel(folder: Path) -> None:
    (folder / "MLmodel").write_text("a: 1\n" * 760_000)


def nest(folder: Path, deep: int = 1500) -> None:
    """Folders in one another: more than a path can name at once."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(deep):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def _many_folders(folder: Path) -> None:
    for number in range(1001):
        (folder / "many" / str(number)).mkdir(parents=True)


def _long_path(folder: Path) -> None:
    (folder / "/".join("d" * 200 for _ in range(6))).mkdir(parents=True)


def _many_parts(folder: Path) -> None:
    """No file is too large by itself."""
    for number in range(5):
        (folder / f"part{number}").touch()
        os.truncate(folder / f"part{number}", MIB << 18)


# For each: the change, and what the error says.
BUNDLE_BOMBS: dict[str, tuple[Change, str]] = {
    "an MLmodel with a hole of 4 GiB": (
        lambda folder: _hole(folder, "MLmodel"),
        "'MLmodel' has 4294967296 bytes, expected at most 262144. No model",
    ),
    "an MLmodel of 3.8 MB": (_long_mlmodel, "'MLmodel' has 3800000 bytes"),
    "a manifest of 4 GiB": (
        lambda folder: _hole(folder / "code", "train_manifest.json"),
        "'code/train_manifest.json' has 4294967296 bytes, expected at most 4194304",
    ),
    "a file of 4 GiB": (
        lambda folder: _hole(folder, "weights.bin"),
        "'weights.bin' has 4294967296 bytes",
    ),
    "too many bytes in total": (_many_parts, f"expected at most {MIB} MiB. If the model"),
    "1,500 nested folders": (nest, "nested more than 64 deep"),
    "1,001 folders": (_many_folders, "it has more than 1000 folders"),
    "a long path": (_long_path, "has more than 1024 characters"),
}
