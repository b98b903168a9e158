"""Which version to serve, and the fetched bundles on this machine's disk.

In ``LYNX_HOME/miniserve/<environment>`` each version has a folder, and ``serving.json`` names the
version that was served last. It is served again after a restart if the registry or MLflow can't be
reached then. Whoever loads a bundle has to verify it with its digest.
"""

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from lynx_pipeline.adapters.bundle_files import read_bundle
from lynx_pipeline.adapters.files import read_bytes, write_atomic
from lynx_pipeline.config import Settings
from lynx_pipeline.domain.strict_json import Fields, canonical, parse_object
from lynx_pipeline.domain.versioning import check_semver
from lynx_pipeline.errors import BadInput, Refused
from lynx_pipeline.registry import Registry, fetching

KEPT = 3  # versions on disk, the current one included


@dataclass(frozen=True, slots=True)
class Version:
    """A promoted version."""

    environment: str
    model: str
    semver: str
    canonical_sha: str
    bundle_digest: str


class Versions:
    """The versions of one project, in one environment."""

    def __init__(self, settings: Settings) -> None:
        self._registry = Registry.open(settings)
        self._settings = settings
        self.mib = settings.evaluation.limits.bundle_mib  # the largest bundle
        self.answer_column = settings.evaluation.answer_column
        self._home = settings.home / "miniserve" / settings.env
        self._state = self._home / "serving.json"

    def latest(self) -> Version:
        """The version in force.

        Raises:
            Refused: nothing was promoted, or the version has no bundle digest.
            BadInput: the registry is damaged.
            SystemFailed: the registry can't be reached.
        """
        found = self._registry.resolve()
        if found.stale:  # this service remembers what it served
            raise BadInput(found.stale)
        if found.bundle_digest is None:
            raise Refused(f"{found.semver} has no bundle digest, so it can't be verified.")
        return self._checked(
            Version(
                environment=self._settings.env.value,
                model=found.model,
                semver=found.semver,
                canonical_sha=found.canonical_sha,
                bundle_digest=found.bundle_digest,
            ),
            "the registry",
        )

    def fetch(self, version: Version) -> Path:
        """The folder of the version's bundle, fetched unless it is there.

        Raises:
            LynxError: see :func:`lynx_pipeline.registry.fetching.fetch`.
            OSError: the disk failed.
        """
        folder = self._home / version.semver
        if folder.exists() and not self._has(folder, version):
            shutil.rmtree(folder)  # somebody changed it
        fetching.fetch(self._registry, version.semver, folder)
        return folder

    def remember(self, version: Version) -> None:
        """Record that this version is served, and remove old ones.

        Raises:
            OSError, SystemFailed: the disk failed.
        """
        write_atomic(self._state, canonical(asdict(version)))
        os.utime(self._home / version.semver)
        folders = [it for it in self._home.iterdir() if it.is_dir() and not it.name.startswith(".")]
        folders.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
        for old in folders[KEPT:]:
            shutil.rmtree(old)

    def last_served(self) -> tuple[Version, Path]:
        """The version that was served last, and its folder.

        Raises:
            BadInput: there is none, or it is of another environment or model.
            SystemFailed: the disk failed.
        """
        where = str(self._state)
        fields = Fields(
            parse_object(
                read_bytes(self._state, "the version that was served last is unknown"), where
            ),
            where,
        )
        version = self._checked(Version(**fields.texts(Version.__slots__)), where)
        return version, self._home / version.semver

    def _checked(self, version: Version, where: str) -> Version:
        """The version, if this service may serve it."""
        env, model = self._settings.env, self._settings.model
        check_semver(version.semver, env)
        if (version.environment, version.model) != (env, model):
            raise BadInput(
                f"{where}: got {version.model} in {version.environment}, expected {model} in {env}."
            )
        return version

    def _has(self, folder: Path, version: Version) -> bool:
        try:
            return read_bundle(folder, self.mib).digest == version.bundle_digest
        except BadInput:
            return False
