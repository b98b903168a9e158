"""Which requirements and which Python a bundle may ask for. Nothing is built."""

from pathlib import Path

import pytest

from lynx_pipeline.errors import BadInput
from lynx_pipeline.sandbox.environment import own_environment, read_requirements
from lynx_pipeline_tests.support.builders import bundle
from lynx_pipeline_tests.support.wheels import bundle_with
from lynx_pipeline_tests.support.worker_scripts import isolation


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://example.org/simple",
        "--extra-index-url=https://example.org/simple",
        "-i https://example.org/simple",
        "--find-links .",
        "-f .",
        "--no-binary :all:",
        "--pre",
        f"mlflow; {'(' * 3000}python_version > '3'{')' * 3000}",
        "-r more.txt",
        "--requirement=more.txt",
        "-c constraints.txt",
        "-e .",
        "--editable=.",
        "-e git+https://example.org/x.git#egg=x",
        "git+https://example.org/x.git",
        "x @ git+https://example.org/x.git",
        "x @ https://example.org/x-1.0-py3-none-any.whl",
        "x @ file:///tmp/x-1.0-py3-none-any.whl",
        "x @ ./x-1.0-py3-none-any.whl",
        "https://example.org/x-1.0-py3-none-any.whl",
        "file:///tmp/x-1.0-py3-none-any.whl",
        "./x-1.0-py3-none-any.whl",
        "/tmp/x-1.0-py3-none-any.whl",
        "../x",
        "x[y] @ file:///tmp/x",
        "x==1.0 --hash=sha256:00",
        "x==1.0 \\",
        "x===1.0.whl",
        "x===${HOME}",
        "${HOME}",
        "x; python_version == '3.11' @ file:///tmp/x",
        "x y",
        "x==1.0, y",
        "\x1b[2Jx",
        "\ufeffmlflow",
    ],
)
def test_a_requirement_is_a_name_and_a_version(tmp_path: Path, line: str) -> None:
    """The candidate controls the file, so it can't choose sources or options."""
    model = bundle_with(tmp_path / "model", line)
    with pytest.raises(BadInput, match=r"requirements\.txt, line 2: .*expected a package's name"):
        own_environment(model, tmp_path / "home", isolation())
    assert not (tmp_path / "home").exists()


def test_requirements_written_by_mlflow_are_read(tmp_path: Path) -> None:
    """Extras and markers are supported."""
    lines = ["", "# ours", "A_a[b]==1.0", "c<2,>=1 ; python_version < '3'  # old", "d-1.whl"]
    found = read_requirements(bundle_with(tmp_path / "model", *lines) / "requirements.txt")
    # We read the last one as a name, but uv would read it as a file.
    assert found == ["mlflow==1.0", "a-a[b]==1.0", 'c<2,>=1; python_version < "3"', "d-1-whl"]


def test_a_bundle_with_incomplete_requirements_is_refused(tmp_path: Path) -> None:
    """The error names what is missing, and nothing is built."""
    model, home = bundle(tmp_path / "model"), tmp_path / "home"
    with pytest.raises(BadInput, match="which environment it needs: there is no file"):
        own_environment(model, home, isolation())
    (model / "requirements.txt").write_text("pandas\n")
    with pytest.raises(BadInput, match="mlflow, which loads the model, is missing"):
        own_environment(model, home, isolation())
    (model / "requirements.txt").write_bytes(b"mlflow\n\xff\n")
    with pytest.raises(BadInput, match="not UTF-8"):
        own_environment(model, home, isolation())
    bundle_with(model)
    (model / "python_env.yaml").write_text("python: 3.6.15\nbuild_dependencies: []\n")
    with pytest.raises(BadInput, match=r"logged under Python 3\.6.* Run lynx-pipeline under"):
        own_environment(model, home, isolation())
    assert not home.exists()
