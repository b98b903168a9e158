"""Machines that read and witness a registry, and somebody who can push anything to it, also with
force."""

import shutil
import time
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path

import pytest

from lynx_pipeline.adapters.ledgers import publish_checkpoint
from lynx_pipeline.adapters.witness_key import VARIABLE
from lynx_pipeline.cli import main
from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.ledger.tree_head import tree_head
from lynx_pipeline.errors import BadInput
from lynx_pipeline.registry import Registry
from lynx_pipeline_tests.registry.prod.conftest import PYPROJECT, Prod
from lynx_pipeline_tests.support.places import InFolder, OnGit
from lynx_pipeline_tests.support.signing import (
    RELEASE,
    cosign,
    private_pem,
    signatures_table,
    witnesses_table,
)

OLD, NEW = "v0.1.0", "v0.2.0"
W1, W2, W3 = "w1", "w2", "w3"
HOUR = 3600


# ----- the machines ---------------------------------------------------------------------------


def machine(prod: Prod, name: str, table: str = "") -> Path:
    """A machine with settings of its own, which names the registry and whom it trusts."""
    folder = prod.folder / name
    folder.mkdir(exist_ok=True)
    place = prod.place.setting if isinstance(prod.place, OnGit) else prod.root / "registry"
    (folder / PYPROJECT).write_text(
        f'[tool.lynx_pipeline]\nmodel = "tiny"\nregistry = "{place}"\n{signatures_table(RELEASE)}'
        f"{table}"
    )
    return folder


def settings_of(folder: Path) -> Settings:
    """The machine's settings."""
    return load_settings(folder, {"LYNX_ENV": "prod"})


def read(prod: Prod, *names: str, required: int = 1, hours: float = 48.0) -> str:
    """What a reader sees that starts anew and requires these witnesses."""
    table = witnesses_table(*names, required=required, max_age_hours=hours) if names else ""
    folder = machine(prod, "reader", table)
    shutil.rmtree(folder / ".lynx", ignore_errors=True)
    return Registry.open(settings_of(folder)).resolve().semver


def environment(name: str) -> dict[str, str]:
    """The variables of a witness."""
    return {"LYNX_ENV": "prod", VARIABLE: private_pem(name)}


def sign(prod: Prod, name: str = W1, *options: str) -> int:
    """Run the command as the witness with this name would."""
    folder = machine(prod, f"witness {name}", witnesses_table(name, required=1))
    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        for variable, value in environment(name).items():
            patch.setenv(variable, value)
        return main(["registry", "witness", *options])


# ----- the attacker -----------------------------------------------------------------------------


def take(prod: Prod) -> dict[str, bytes]:
    """Everything in the registry."""
    return dict(prod.place.all())


def show(prod: Prod, content: Mapping[str, bytes]) -> None:
    """Make everything in the registry this."""
    if isinstance(prod.place, OnGit):
        for name in prod.place.refs():
            prod.place.git("update-ref", "-d", name)
        for name, target in content.items():
            prod.place.git("update-ref", name, target.decode())
    else:
        assert isinstance(prod.place, InFolder)
        shutil.rmtree(prod.place.folder)
        for name, raw in content.items():
            path = prod.place.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(raw)


def checkpoints(content: Mapping[str, bytes]) -> dict[str, bytes]:
    """What the witnesses have published in it."""
    return {name: raw for name, raw in content.items() if "witness" in name}


def ledger(content: Mapping[str, bytes]) -> dict[str, bytes]:
    """All the rest."""
    return {name: raw for name, raw in content.items() if "witness" not in name}


def publish(prod: Prod, name: str, raw: bytes) -> None:
    """Put this in the place of a witness."""
    publish_checkpoint(settings_of(machine(prod, "attacker")), name, raw)


def signed_ago(prod: Prod, name: str, hours: float, model: str = "tiny") -> bytes:
    """What the witness would have signed of the registry so many hours ago."""
    found = prod.store.read()
    head = tree_head(found, model, len(found.entries))
    return cosign(head, name, time.time() - hours * HOUR)


def refused(prod: Prod, message: str, *names: str, required: int = 1, hours: float = 48.0) -> None:
    """Check that a new reader that requires these witnesses refuses the registry."""
    with pytest.raises(BadInput, match=message):
        read(prod, *names, required=required, hours=hours)
