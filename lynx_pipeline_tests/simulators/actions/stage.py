"""A team's services on this machine: its repository with the deploy workflow, the registry on the
same git server, MLflow, DVC's remote, GitHub's API and issuer, and a notification channel. Two
tutors are trained, one of which has regressed.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from examples.grammar_tutor.configs import CANDIDATE, REGRESSED
from examples.grammar_tutor.train import train_and_log
from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.mlflow_candidates import choose_model
from lynx_pipeline.adapters.mlflow_tracking import connected, mirror_alias
from lynx_pipeline.config import load_settings
from lynx_pipeline_tests.simulators.actions import fake_github
from lynx_pipeline_tests.simulators.actions.fake_github import FakeGitHub
from lynx_pipeline_tests.simulators.actions.github_records import Comment, PullRequest
from lynx_pipeline_tests.simulators.actions.job import Hooks
from lynx_pipeline_tests.simulators.actions.runner import Event, Runner, RunResult
from lynx_pipeline_tests.support import REPO, fake_issuer, git_server, mlflow_server, warm
from lynx_pipeline_tests.support.builders import bundle
from lynx_pipeline_tests.support.fake_issuer import FakeIssuer
from lynx_pipeline_tests.support.places import BRANCH, GIT_ENV, OnGit, git
from lynx_pipeline_tests.support.receiver import Receiver, receiving
from lynx_pipeline_tests.support.signing import private_pem

WORKFLOW = ".github/workflows/deploy-grammar-tutor.yml"
NUMBER = 7
OWNER = "octocat"
LABEL = "deploy-candidate"
REGISTERED = "tutor-candidates"
ALIAS = f"models:/{REGISTERED}@next"


def request_text(run_id: str, semver: str) -> str:
    """The text of a valid request."""
    return f"mlflow_run_id={run_id} semver={semver}"


@dataclass
class Stage:
    """The running services. ``good`` and ``bad`` are the MLflow runs of the two tutors."""

    folder: Path
    github: FakeGitHub
    issuer: FakeIssuer
    git: git_server.Server
    registry: OnGit
    channel: Receiver
    mlflow: str
    sha: str = ""
    good: str = ""
    bad: str = ""
    runs: int = 0
    started: RunResult | None = None
    # Fine-grained tokens and their access to the registry, if it is a separate repository. They can
    # also read the team's repository.
    separate_tokens: dict[str, str] = field(default_factory=dict)
    # Actions besides the pinned ones, by OWNER/REPO@COMMIT, and where they are.
    actions: dict[str, Path] = field(default_factory=dict)
    # uv's cache for jobs under act. With one, they also share environments; without, each downloads
    # its packages, as on GitHub.
    uv_cache: Path | None = None
    # Functions to call at an authorized git request, by service.
    git_hooks: dict[str, object] = field(default_factory=dict)

    @property
    def pull(self) -> PullRequest:
        """The pull request."""
        return self.github.pulls[NUMBER]

    @property
    def dvc_remote(self) -> Path:
        """The folder of DVC's remote."""
        return self.folder / "dvc-remote"

    def clear(self) -> None:
        """Start over: a labelled pull request without comments, empty registry and channel."""
        self.github.pulls[NUMBER] = PullRequest(NUMBER, labels=[LABEL])
        self.github.comments.clear()
        self.github.runs.clear()
        self.github.deleted = 0
        self.github.down = False
        self.channel.got.clear()
        self.channel.status = 200
        self.registry = _registry(self.folder / "served" / "registry.git")

    def comment(self, body: str, by: str = OWNER) -> Comment:
        """Add a comment to the pull request."""
        return self.github.comment(NUMBER, by, body)

    def runner(self, comment: Comment, hooks: Hooks | None = None) -> Runner:
        """The run that GitHub starts for this comment."""
        by = comment.login or ""
        return self._runner(Event("issue_comment", self.github.created(comment), by), hooks)

    def labelled(self, label: str = LABEL, by: str = OWNER) -> Runner:
        """The run that GitHub starts when ``by`` sets a label."""
        payload = self.github.labeled(NUMBER, label, by)
        return self._runner(Event("pull_request_target", payload, by), None)

    def _runner(self, event: Event, hooks: Hooks | None) -> Runner:
        self.runs += 1
        return Runner(
            workflow=REPO / WORKFLOW,
            event=event,
            github=self.github,
            issuer=self.issuer,
            origin=f"{self.git.url}/origin.git",
            sha=self.sha,
            work=self.folder / "runs" / str(self.runs),
            environ=self.environ,
            vars={"MLFLOW_TRACKING_URI": self.mlflow},
            environment_secrets={
                "production": {"LYNX_SIGNING_KEY": private_pem()},
                "report": {"APPRISE_URLS": self.channel.url},
            },
            hooks=hooks or Hooks(),
            run_id=str(1_000_000 + self.runs),
        )

    @property
    def environ(self) -> dict[str, str]:
        """The environment of every machine, in which git trusts the server."""
        tools = self.folder / "tools"
        return {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            **GIT_ENV,
            "GIT_SSL_CAINFO": str(self.git.pem),
            "READY_ENVIRONMENT": str(warm.environment()),
        }

    @contextmanager
    def two_models(self) -> Iterator[None]:
        """While the block runs, the team's project has a second model with the same eval set."""
        root, before = self.folder / "team", self.sha
        file = root / "pyproject.toml"
        text = file.read_text().replace('model = "grammar-tutor"\n', "")
        names = ("grammar-tutor", "strict-tutor")
        tables = (f'\n[[tool.lynx_pipeline.models]]\nname = "{name}"\n' for name in names)
        file.write_text(text + "".join(tables))
        git(root, "commit", "--quiet", "--all", "--message", "Add a model")
        self.sha = self._push()
        try:
            yield
        finally:
            git(root, "reset", "--quiet", "--hard", before)
            self.sha = self._push()

    def _push(self) -> str:
        """Make the team's branch what is checked out; returns the commit."""
        root, origin = self.folder / "team", self.folder / "served" / "origin.git"
        git(root, "push", "--quiet", "--force", f"file://{origin}", "main")
        return git(root, "rev-parse", "HEAD")

    def log_elsewhere(self) -> str:
        """Create a run whose artifacts are on a foreign host; returns its id. The host is the
        channel's, which would record a request."""
        place = self.channel.address.replace("http://", "mlflow-artifacts://")
        with connected(self.mlflow) as client:
            experiment = client.get_experiment_by_name("elsewhere")
            number = (
                experiment.experiment_id
                if experiment
                else client.create_experiment("elsewhere", place)
            )
            run_id: str = client.create_run(number).info.run_id
            client.set_terminated(run_id)
        return run_id

    def log_failing(self) -> str:
        """Log a model that fails when it is asked; returns the run's id."""
        folder = bundle(self.folder / "failing", "raise RuntimeError('no idea')")
        with connected(self.mlflow) as client:
            run_id: str = client.create_run("0").info.run_id
            client.log_artifacts(run_id, str(folder), "model")
            client.set_terminated(run_id)
        return run_id

    def move_alias(self, run_id: str) -> None:
        """Make :data:`ALIAS` name the model of this run."""
        uri = choose_model(self.mlflow, run_id).uri
        mirror_alias(
            self.mlflow,
            model=REGISTERED,
            alias="next",
            uri=uri,
            run_id=run_id,
            tags={},
            about={},
            metrics={},
        )

    def relog(self, run_id: str) -> None:
        """Change the run's bundle, as anybody who can write to MLflow could."""
        (self._bundle(run_id) / "extra.txt").write_text("another model")

    def canonical_sha(self, run_id: str) -> str:
        """The canonical sha of the run's bundle."""
        return read_bundle(self._bundle(run_id), 1).canonical_sha

    def _bundle(self, run_id: str) -> Path:
        for file in (self.folder / "artifacts").rglob("MLmodel"):
            if run_id in file.read_text():
                return file.parent
        raise AssertionError(f"no model of {run_id}")

    def unlog(self) -> None:
        """Undo :meth:`relog`."""
        for file in (self.folder / "artifacts").rglob("extra.txt"):
            file.unlink()


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """The services, for as long as the block runs."""
    served = folder / "served"
    served.mkdir(parents=True)
    git_hooks: dict[str, object] = {}
    with (
        fake_github.running() as github,
        fake_issuer.running() as issuer,
        receiving() as channel,
    ):

        def authorize(given: git_server.Credentials | None, service: str, repository: str) -> int:
            status = github.authorize(given, service)
            if stage.separate_tokens and (repository == "registry.git" or status == 401):
                level = stage.separate_tokens.get(given[1]) if given else None
                ours = level == "write" and repository == "registry.git"
                may = service == git_server.FETCH or ours
                status = 401 if level is None else 200 if may else 403
            if status == 200 and callable(hook := git_hooks.get(service)):
                hook()
            return status

        with (
            git_server.serving(served, authorize) as server,
            patch.dict(os.environ, GIT_ENV),
            mlflow_server.running(folder) as mlflow,
        ):
            registry = _registry(served / "registry.git")
            stage = Stage(
                folder, github, issuer, server, registry, channel, mlflow, git_hooks=git_hooks
            )
            github.collaborators |= {OWNER: "admin", "hubot": "write", "reader": "read"}
            root = _team(stage)
            stage.sha = git(root, "rev-parse", "HEAD")
            _tools(folder / "tools")
            settings = load_settings(root, {"MLFLOW_TRACKING_URI": mlflow})
            stage.good = train_and_log(settings, CANDIDATE, {})
            stage.bad = train_and_log(settings, REGRESSED, {})
            stage.move_alias(stage.good)
            stage.clear()
            yield stage


def _registry(bare: Path) -> OnGit:
    shutil.rmtree(bare, ignore_errors=True)
    place = OnGit.new(bare, partial=True)
    place.git("config", "http.receivepack", "true")
    return place


def copy_of_ours(root: Path) -> None:
    """Copy the files of this working tree that git tracks, or would."""
    listed = git(REPO, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (REPO / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, root / name)


def _team(stage: Stage) -> Path:
    """The team's repository: a copy of this working tree, set up for production as in docs/ci.md,
    and pushed to its origin."""
    root = stage.folder / "team"
    copy_of_ours(root)
    file = root / "pyproject.toml"
    text = re.sub(r"(?m)^registry = .*\n", "", file.read_text())
    text = re.sub(r"(?ms)^\[tool\.lynx_pipeline\.identity\]\n.*?(?=^\[|\Z)", "", text)
    table = "[tool.lynx_pipeline]\n"
    place = f'registry = "git+{stage.git.url}/registry.git#{BRANCH}"\n'
    policy = stage.issuer.table(workflow=WORKFLOW, events=("issue_comment", "pull_request_target"))
    file.write_text(f"{text.replace(table, table + place)}\n{policy}")
    owners = root / ".github/CODEOWNERS"
    owners.write_text(owners.read_text().replace("@OWNER", f"@{OWNER} @reader"))
    shutil.copytree(REPO / "data/dvc-remote", stage.dvc_remote)
    config = root / ".dvc/config"
    config.write_text(config.read_text().replace("../data/dvc-remote", str(stage.dvc_remote)))
    bare = OnGit.new(stage.folder / "served" / "origin.git")
    for command in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        ("commit", "--quiet", "--message", "The team's repository"),
        ("push", "--quiet", f"file://{bare.bare}", "main"),
    ):
        git(root, *command)
    bare.git("symbolic-ref", "HEAD", "refs/heads/main")
    bare.git("config", "uploadpack.allowAnySHA1InWant", "true")
    return root


# Skips commands that only a fresh virtual machine needs.
_SUDO = """#!/bin/sh
case "$1" in apt-get | sysctl) echo "rehearsal: skipped: $*" ;; *) exec "$@" ;; esac
"""


def _tools(folder: Path) -> None:
    folder.mkdir()
    (folder / "sudo").write_text(_SUDO)
    (folder / "sudo").chmod(0o755)
