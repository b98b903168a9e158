"""Hostile models that MLflow loads, in complete evaluations: none gets evidence by forging output
or exceeding limits, and one that searches for secrets finds none to put into its answers. Each
attack is bounded."""

import logging
from dataclasses import dataclass
from pathlib import Path

import pytest

from lynx_pipeline.config import Settings
from lynx_pipeline.errors import BadInput
from lynx_pipeline.evaluation.candidate import Candidate
from lynx_pipeline.evaluation.evidence import EVAL, PREDICTIONS, PRINTED, TIMINGS
from lynx_pipeline.evaluation.run import evaluate_candidate
from lynx_pipeline_tests.sandbox.hostile import CANARY, Scene, staged
from lynx_pipeline_tests.support.builders import RUN, bundle, project
from lynx_pipeline_tests.support.places import InFolder, promote

SETTINGS = """
registry = "registry"
[tool.lynx_pipeline.evaluation]
batch_size = 5
batch_seconds = 30
processes = 60
output_mib = 1
workers = 1
"""
RIGHT = "right = [prompt.removeprefix('Say ') for prompt in prompts]\n"


@dataclass(frozen=True)
class Target:
    """A project with a promoted version, and another candidate's bundle."""

    settings: Settings
    registry: InFolder
    candidate: Candidate
    scene: Scene

    def evaluate(self, body: str, load: str = "pass") -> None:
        """Evaluate a model with this body as the candidate."""
        bundle(self.candidate.bundle, f"{RIGHT}{body}", load)
        evaluate_candidate(
            self.settings,
            self.candidate,
            again=False,
            warn=lambda text: logging.getLogger().warning(text),
            progress=lambda done, total: None,
        )

    def evidence(self) -> dict[str, bytes]:
        """The evidence files that exist, by name."""
        names = (EVAL, PREDICTIONS, TIMINGS)
        files = [self.candidate.evidence / name for name in names]
        return {file.name: file.read_bytes() for file in files if file.exists()}


@pytest.fixture
def target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Target:
    """A target with secrets in the files that a candidate must not see."""
    settings = project(tmp_path / "project", pyproject=SETTINGS)
    for name in (".git/config", ".dvc/config", ".env"):
        (settings.root / name).parent.mkdir(exist_ok=True)
        (settings.root / name).write_text(CANARY)
    other = bundle(settings.candidates / ("f" * 32) / "bundle")
    (other / "secret").write_text(CANARY)
    registry = InFolder(settings.root / "registry")
    promote(registry.store, 1)
    candidate = Candidate(RUN, settings.candidates / RUN)
    scene = staged(candidate.bundle, tmp_path, monkeypatch, caplog)
    return Target(settings, registry, candidate, scene)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("load", "body", "message"),
    [
        pytest.param("raise SystemExit", "", "loading failed", id="never loads"),
        pytest.param(
            "",
            "import os, time; [os.fork() or (time.sleep(60), os._exit(0)) for _ in range(500)]",
            "more than 60 processes|BlockingIOError",
            id="forks",
        ),
        pytest.param(
            "",
            "import os\nif os.fork() == 0:\n    os.setsid()\n    import time\n    time.sleep(60)\n"
            "os._exit(0)",
            "ended during the batch",
            id="leaves a daemon",
        ),
        pytest.param("", "return ['x' * (2 << 20)] * 5", "more output", id="enormous answers"),
        pytest.param(
            'import json; json.dumps = lambda value: \'{"n": 12, "correct": 12}\'',
            "",
            "ready = None",
            id="forges a report",
        ),
        pytest.param(
            "import time; time.perf_counter = lambda: float('nan')",
            "return right",
            "ready = nan",
            id="forges the time",
        ),
        pytest.param(
            "",
            "import os, json\nline = json.dumps({'ids': [0, 1, 2, 3, 4], 'predictions': right, "
            "'seconds': 0, 'peak_mib': 1}).encode()\n"
            "for fd in range(3, 9):\n"
            "    try: os.write(fd, line + b'\\n')\n"
            "    except OSError: pass\n"
            "return right",
            "ids that differ",
            id="writes to our pipe",
        ),
        pytest.param("", "return [text.encode() for text in right]", "bytes", id="bytes"),
        pytest.param(
            "", "return ['\\ud800' for _ in right]", "unpaired surrogate", id="invalid text"
        ),
    ],
)
def test_a_hostile_model_gets_no_evidence(
    target: Target, load: str, body: str, message: str
) -> None:
    """The registry is unchanged."""
    before, files = target.registry.all(), target.scene.files()
    with pytest.raises(BadInput, match=message) as caught:
        target.evaluate(body or "return right", load or "pass")
    target.scene.assert_nothing_left()
    assert target.evidence() == {}
    assert target.registry.all() == before
    assert CANARY not in str(caught.value) + target.scene.log.text
    for path, digest in files.items():
        assert target.scene.files()[path] == digest
    names = {path.name for path in target.candidate.folder.rglob("*") if path.is_file()}
    assert names <= {".lock", "candidate_eval.json.journal", "MLmodel", "tiny_loader.py", PRINTED}


@pytest.mark.slow
def test_a_model_that_searches_for_secrets_finds_none(target: Target, isolated: bool) -> None:
    """The model puts what it finds into its answers, in evidence that everybody can read."""

    if not isolated:
        return
    root = str(target.settings.root)
    body = f"""
import os
found = [repr(dict(os.environ))]
for top in ({root!r}, '/root', '/home', '/dev/shm', '/opt'):
    for place, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name not in ('lib', '.pyenv', '.venv')]
        for name in files:
            found.append(place + open(os.path.join(place, name), errors='replace').read())
return [str(found)[-10000:]] * len(prompts)
"""
    before = target.registry.all()
    target.evaluate(body)
    evidence = target.evidence()
    assert set(evidence) == {EVAL, PREDICTIONS, TIMINGS}
    assert not any(CANARY.encode() in raw for raw in evidence.values())
    assert CANARY not in target.scene.log.text
    assert target.registry.all() == before
    target.scene.assert_nothing_left()
