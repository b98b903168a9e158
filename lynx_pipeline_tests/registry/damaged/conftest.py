"""Registries with three promotions, in both stores, that the tests here damage and repair."""

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from lynx_pipeline.adapters.ledgers.store import unsigned
from lynx_pipeline.cli import main
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.ledger.chain import Entry
from lynx_pipeline.domain.ledger.facts import Promoted
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.support.builders import actor, project, promoted
from lynx_pipeline_tests.support.places import GIT_ENV, InFolder, OnGit, Place
from lynx_pipeline_tests.support.signing import RELEASE, sign, signatures_table


@dataclass(frozen=True)
class Case:
    """A project whose registry is about to be damaged."""

    place: Place
    root: Path
    env: Env

    @property
    def git(self) -> OnGit:
        """The registry, which is on git."""
        assert isinstance(self.place, OnGit)
        return self.place

    @property
    def folder(self) -> InFolder:
        """The registry, which is a folder."""
        assert isinstance(self.place, InFolder)
        return self.place

    @property
    def settings(self) -> Settings:
        """The administrator's settings."""
        return load_settings(self.root, {"LYNX_ENV": self.env})

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The ledger as a reader reads it."""
        return self.place.store.read().entries

    def version(self, number: int) -> str:
        """A version of this environment."""
        return f"v0.{number}.0" if self.env is Env.PROD else f"v0.{number}.0-dev"

    def promotion(self, number: int) -> Promoted:
        """A promotion that counts once it is signed."""
        claims = {"actor": actor()} if self.env is Env.PROD else {}
        return promoted(self.version(number), env=self.env, **claims)

    def promote(self, number: int) -> Entry:
        """Append a promotion that counts."""
        new = self.promotion(number)
        return self.place.store.append(
            lambda _: new, sign=sign if self.env is Env.PROD else unsigned
        ).entry

    def forge(self, number: int) -> Entry:
        """Append an entry as somebody without the key can, with its tag."""
        new = self.promotion(number)
        return self.place.store.append(lambda _: new).entry

    def remember(self) -> None:
        """Resolve as the administrator, who remembers it."""
        Registry.open(self.settings).promoted()

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run ``registry`` with these arguments: exit code, output and errors."""
        out, err = io.StringIO(), io.StringIO()
        with chdir(self.root), redirect_stdout(out), redirect_stderr(err):
            code = main(["registry", *arguments])
        return code, out.getvalue(), err.getvalue()

    def rewrite(self, change: Callable[[list[bytes]], list[bytes]]) -> None:
        """Change the ledger's lines, in the file or with a commit."""
        self.place.overwrite(b"".join(change(self.place.index().splitlines(keepends=True))))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git without the machine's configuration."""
    for name, value in GIT_ENV.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Env], Path]:
    """Registries with three promotions, to be copied."""
    made: dict[tuple[str, Env], Path] = {}

    def template(store: str, env: Env) -> Path:
        if (store, env) not in made:
            path = tmp_path_factory.mktemp("template") / "registry"
            place = OnGit.new(path) if store == "git" else InFolder(path)
            case = Case(place, path, env)
            for number in (1, 2, 3):
                case.promote(number)
            made[store, env] = path
        return made[store, env]

    return template


@pytest.fixture
def new_case(
    templates: Callable[[str, Env], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, Env], Case]]:
    """Makes the case for a store and an environment."""

    def case(store: str, env: Env) -> Case:
        copy = Path(shutil.copytree(templates(store, env), tmp_path / "registry"))
        place: Place = OnGit(copy) if store == "git" else InFolder(copy)
        table = f'registry = "{place.setting}"\n{signatures_table(RELEASE)}'
        project(tmp_path / "project", pyproject=table)
        monkeypatch.setenv("LYNX_ENV", env)
        monkeypatch.setattr("lynx_pipeline.adapters.ledgers.git.PATIENCE", 1)
        return Case(place, tmp_path / "project", env)

    yield case
