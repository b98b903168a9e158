"""``run`` on a terminal: how it ends is the last thing that a person sees.

``SCREENSHOTS=FOLDER`` saves pictures of it, as for ``docs/images``.
"""

import io
import os
import pty
import re
import subprocess
import termios
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from lynx_pipeline_tests.end_to_end.conftest import Demo, Place

pytestmark = pytest.mark.slow
WIDTH = 112
RED, GREEN = "\x1b[1;31m", "\x1b[32m"


@pytest.fixture(scope="module")
def place(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A copy of the demo's state. Its candidates were evaluated before."""
    return demo.copy(tmp_path_factory.mktemp("terminal") / "home")


def on_a_terminal(place: Place, name: str, *arguments: str) -> tuple[int, str]:
    """The exit code and the output of ``lynx-pipeline run``. ``name`` is that of its picture."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (60, WIDTH))
    environ = {**place.cold.environ, "LYNX_HOME": str(place.home), "TERM": "xterm-256color"}
    command = ["lynx-pipeline", "run", *arguments]
    with subprocess.Popen(
        command, cwd=place.root, env=environ, stdin=its, stdout=its, stderr=its
    ) as process:
        os.close(its)
        output = read(ours)
    for folder, shown in ((place.home, "~/tutor/.lynx"), (place.root, "~/tutor")):
        output = output.replace(str(folder), shown)
    if saved := os.environ.get("SCREENSHOTS"):
        text = f"$ {' '.join(command)}\n{output}"
        (Path(saved) / f"run-{name}.svg").write_text(picture(text))
    return process.returncode, output


def read(terminal: int) -> str:
    """Everything that is written to a terminal until nobody has it open."""
    parts = []
    try:
        while part := os.read(terminal, 65536):
            parts.append(part)
    except OSError:  # what Linux answers at the end
        pass
    os.close(terminal)
    return b"".join(parts).decode().replace("\r\n", "\n")


def picture(output: str) -> str:
    """The text with its colours, as SVG with the fonts of whoever looks at it."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.from_ansi(output))
    svg = console.export_svg(title="lynx-pipeline", unique_id="terminal")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def test_a_promotion_ends_with_what_was_promoted(place: Place, demo: Demo) -> None:
    """After the table of all buckets."""
    code, output = on_a_terminal(place, "promoted", demo.good, "v0.6.0-dev")
    assert code == 0
    assert f"{GREEN}PASSED: all 28 buckets kept their floor." in output
    assert "\nPROMOTED: grammar-tutor v0.6.0-dev is " in output[output.rindex("Report:") :]


def test_a_refusal_ends_with_the_buckets(place: Place, demo: Demo) -> None:
    """After some of the answers that went wrong."""
    code, output = on_a_terminal(place, "refused", demo.bad, "v0.6.1-dev")
    assert code == 1
    assert f"{RED}REFUSED: 12 of 28 buckets fell below their floor." in output
    last = output[output.rindex("lynx-pipeline: the gate refused because of: verb.do, ") :]
    assert last.endswith("Nothing was changed.\n")


def test_a_failed_system_ends_with_what_to_do(place: Place, demo: Demo) -> None:
    """Which is not a refusal: the exit code says so, too."""
    nowhere = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    code, output = on_a_terminal(place.with_variables(**nowhere), "broken", demo.good, "v0.6.2-dev")
    assert code == 3
    assert output.startswith("lynx-pipeline: MLflow at http://127.0.0.1:9 ")
    assert "REFUSED" not in output
    assert "Traceback" not in output
