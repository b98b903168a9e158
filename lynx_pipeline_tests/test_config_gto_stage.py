"""The setting ``gto_stage``, and the settings that it needs."""

from pathlib import Path

import pytest

from lynx_pipeline.config import load_settings
from lynx_pipeline.errors import BadInput


@pytest.mark.parametrize(
    ("model", "registry", "stage", "message"),
    [
        ("m", "", "prod", "'gto_stage': expected a 'registry' on git"),
        ("m", "registry", "prod", "'gto_stage': expected a 'registry' on git"),
        ("m", "git+file:///r.git#b", "a/b", "'gto_stage': expected letters"),
        ("m", "git+file:///r.git#b", "prod-", "found 'prod-'"),
        ("a.b", "git+file:///r.git#b", "prod", "expected a 'model' whose name GTO accepts"),
        ("m", "git+file:///r.git#b", "prod", ""),
        ("m", "registry", "", ""),
    ],
)
def test_a_stage_of_gto_needs_a_registry_on_git(
    tmp_path: Path, model: str, registry: str, stage: str, message: str
) -> None:
    """Because it is a tag there. It is that of prod, so dev has none."""
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.lynx_pipeline]\nmodel = "{model}"\nregistry = "{registry}"\n'
        f'gto_stage = "{stage}"\n',
    )
    if message:
        with pytest.raises(BadInput, match=message):
            load_settings(tmp_path, {})
    else:
        assert load_settings(tmp_path, {}).gto_stage == ""
        assert load_settings(tmp_path, {"LYNX_ENV": "prod"}).gto_stage == stage
