"""The working folder of the measured commands."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from benchmarks.measure import Command, run

REPO = Path(__file__).parents[1]
BARE = REPO / "benchmarks" / "bare"
PYTHON = sys.executable
EVAL_SET = "data/eval/phase-20.jsonl"
OURS = ("LYNX_", "DAGSTER_", "MLFLOW_", "DVC_")


class Place:
    """A clone of this repository with a trained tutor, where the commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "clone"
        subprocess.run(["git", "clone", "-q", REPO, self.root], check=True)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
        path = f"{Path(PYTHON).parent}{os.pathsep}{inherited['PATH']}"
        self.environ = {
            **inherited,
            "PATH": path,
            "PYTHONPATH": str(REPO),
            "LYNX_HOME": str(folder / "home"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def command(self, *words: str | Path, before: Callable[[], object] = lambda: None) -> Command:
        """A command in the clone."""
        return Command(words, self.root, self.environ, before)

    def bare(self, script: str, *words: str | Path) -> Command:
        """One of the reference scripts. A bundle with compiled modules in it would be refused."""
        made = self.command(PYTHON, BARE / f"{script}.py", *words)
        return replace(made, environ={**made.environ, "PYTHONDONTWRITEBYTECODE": "1"})

    def do(self, *words: str | Path) -> str:
        """Run a command once, without measuring it; return its output."""
        return run(self.command(*words)).output

    @cached_property
    def eval_set(self) -> Path:
        """The pulled eval set."""
        self.do("dvc", "pull", "-q", f"{EVAL_SET}.dvc")
        return self.root / EVAL_SET

    @cached_property
    def run_id(self) -> str:
        """The MLflow run of a tutor that passes the gate."""
        code = (
            "from lynx_pipeline.config import load_settings\n"
            "from examples.grammar_tutor.configs import CANDIDATE\n"
            "from examples.grammar_tutor.train import train_and_log\n"
            "print('run', train_and_log(load_settings(), CANDIDATE, {}))"
        )
        return self._at(self.folder / "trained", code)

    @cached_property
    def bundle(self) -> Path:
        """The bundle of that run."""
        code = (
            "from lynx_pipeline.config import load_settings\n"
            "from lynx_pipeline.evaluation.candidate import candidate, fetch\n"
            f"fetch(load_settings(), {self.run_id!r})\n"
            f"print('at', candidate(load_settings(), {self.run_id!r}).bundle)"
        )
        return Path(self._at(self.folder / "trained", code))

    def _at(self, home: Path, code: str) -> str:
        """Run ``code`` with a separate state folder, which no benchmark empties; returns the last
        word that it prints."""
        environ = {**self.environ, "LYNX_HOME": str(home)}
        return run(Command([PYTHON, "-c", code], self.root, environ)).output.split()[-1]

    def request(self, config: Path) -> list[str]:
        """The command that evaluates and promotes the tutor."""
        options = ("--run-id", self.run_id, "--semver", "v0.1.0-dev", "--output", config, "--json")
        output = self.do("lynx-pipeline", "request", *options)
        command: list[str] = json.loads(output)["command"]
        return command
