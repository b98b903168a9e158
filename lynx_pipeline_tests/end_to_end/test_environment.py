"""A third-party inflection package, with its own eval set and environment: from a folder to a
promotion, with the commands of the README."""

import importlib.util
import json
import re
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from lynx_pipeline_tests.end_to_end.conftest import Place, clone, data_version, metadata
from lynx_pipeline_tests.support.package_index import index

pytestmark = pytest.mark.slow(seconds=60)

PACKAGE = "pyinflect"
# A small MLflow is enough to load a model.
REQUIREMENTS = [f"mlflow-skinny=={version('mlflow')}", "numpy", "pandas", f"{PACKAGE}==0.5.1"]

MODEL = """
import mlflow.models
import mlflow.pyfunc

TAGS = {"past": "VBD", "participle": "VBN", "third": "VBZ", "gerund": "VBG"}


class Inflect(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        from pyinflect import getInflection  # where the model is logged it need not be
        self.inflect = getInflection

    def predict(self, context, model_input: list[str], params=None) -> list[str]:
        questions = [text.split() for text in model_input]
        return [self.inflect(lemma, TAGS[form])[0] for form, _, lemma in questions]


mlflow.models.set_model(Inflect())
"""

LOG = """
import sys, mlflow
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
model, folder, *requirements = sys.argv[1:]
text = Schema([ColSpec("string")])
settings = {"signature": ModelSignature(text, text), "pip_requirements": requirements}
if folder:
    mlflow.pyfunc.save_model(folder, python_model=model, **settings)
else:
    with mlflow.start_run() as run:
        mlflow.pyfunc.log_model(name="model", python_model=model, **settings)
        print(run.info.run_id)
"""

FORMS = ("past", "participle", "third", "gerund")
VERBS = {
    "regular": """
        walk walked walked walks walking
        play played played plays playing
        study studied studied studies studying
        stop stopped stopped stops stopping
        cry cried cried cries crying
        watch watched watched watches watching
        fix fixed fixed fixes fixing
        hope hoped hoped hopes hoping
    """,
    "irregular": """
        go went gone goes going
        see saw seen sees seeing
        write wrote written writes writing
        eat ate eaten eats eating
        run ran run runs running
        swim swam swum swims swimming
        take took taken takes taking
        fly flew flown flies flying
    """,
}


def questions() -> bytes:
    """64 handwritten questions: 16 verbs in 4 forms."""
    items = [
        {
            "id": f"{lemma}-{form}",
            "prompt": f"{form} of {lemma}",
            "expected": word,
            "buckets": {"form": form, "kind": kind},
        }
        for kind, text in VERBS.items()
        for lemma, *words in (line.split() for line in text.split("\n") if line.strip())
        for form, word in zip(FORMS, words, strict=True)
    ]
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def project(root: Path) -> Place:
    """A clone with a different model and different questions."""
    clone(root)
    settings = root / "pyproject.toml"
    text = settings.read_text()
    for before, after in (
        ('model = "grammar-tutor"', 'model = "inflection"'),
        ('eval_set = "data/eval/phase-20.jsonl"', 'eval_set = "data/eval/forms.jsonl"'),
        ('corpus = "data/processed/train.jsonl"\n', ""),
        ('env_manager = "local"', 'env_manager = "uv"'),
    ):
        assert before in text
        text = text.replace(before, after)
    settings.write_text(text)
    (root / "eval_baseline.json").unlink()
    (root / "data/eval/forms.jsonl").write_bytes(questions())
    return Place(root, root / ".lynx", index())


def test_a_published_package_is_promoted_from_its_own_environment(tmp_path: Path) -> None:
    """The package is not installed here. Its environment is built once for both evaluations."""
    assert importlib.util.find_spec(PACKAGE) is None
    place = project(tmp_path / "project")
    model, log = tmp_path / "inflect.py", tmp_path / "log.py"
    model.write_text(MODEL)
    log.write_text(LOG)

    def do(*command: str) -> str:
        done = place.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # The floors are the package's current scores.
    out = tmp_path / "out/candidate_eval.json"
    do("dvc", "add", "--quiet", "data/eval/forms.jsonl")
    do(sys.executable, str(log), str(model), str(tmp_path / "bundle"), *REQUIREMENTS)
    arguments = ("--bundle", str(tmp_path / "bundle"), "--eval-set", "data/eval/forms.jsonl")
    printed = do("lynx-pipeline", "minieval", *arguments, "--output", str(out))
    assert printed.startswith("64 of 64 right")
    do("lynx-pipeline", "baseline", "propose", "--from", str(out), "--justification", "The first.")
    (built,) = (path for path in (place.home / "environments").iterdir() if path.is_dir())
    before = built.stat()

    place = place.with_variables(MLFLOW_TRACKING_URI=place.settings.tracking_uri)
    run_id = do(sys.executable, str(log), str(model), "", *REQUIREMENTS).split()[-1]
    assert re.fullmatch("[0-9a-f]{32}", run_id)
    arguments = ("--run-id", run_id, "--semver", "v1.0.0-dev")
    launch = shlex.split(do("lynx-pipeline", "request", *arguments).splitlines()[-1])
    assert launch[:3] == ["dagster", "job", "execute"]
    do(*launch)

    resolved = json.loads(do("lynx-pipeline", "registry", "resolve", "--json"))
    assert (resolved["semver"], resolved["mlflow_run_id"]) == ("v1.0.0-dev", run_id)
    evaluation = json.loads((place.evidence(run_id) / "candidate_eval.json").read_bytes())
    assert (evaluation["correct"], evaluation["n"]) == (64, 64)
    assert re.fullmatch("[0-9a-f]{64}", evaluation["environment"])
    assert evaluation["environment"] == json.loads(out.read_bytes())["environment"]
    shown = metadata(place.latest("candidate_eval", run_id))
    assert shown["environment"] == evaluation["environment"]
    assert f"{PACKAGE}==0.5.1" in (built / "requirements.lock").read_text()
    assert (built.stat().st_ino, built.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert data_version(place.latest("candidate_bundle", run_id)) == evaluation["canonical_sha"]
