"""The table of the witnesses in ``pyproject.toml``."""

from dataclasses import replace
from pathlib import Path

import pytest

from lynx_pipeline.config import load_settings
from lynx_pipeline.domain.release.witnesses import WitnessPolicy
from lynx_pipeline.errors import BadInput
from lynx_pipeline_tests.support.signing import witness_key, witnesses_table

HEAD = '[tool.lynx_pipeline]\nmodel = "m"\n'
TABLE = "[tool.lynx_pipeline.witnesses]\n"
KEYS = f'keys = ["{witness_key("w1")}", "{witness_key("w2")}"]\n'
RENAMED = replace(witness_key("w1"), name="w3")


def load(folder: Path, table: str) -> WitnessPolicy:
    """The policy of a project with this table."""
    (folder / "pyproject.toml").write_text(HEAD + table)
    return load_settings(folder, {}).witnesses


def test_without_a_table_no_witness_is_required(tmp_path: Path) -> None:
    """Nor with an empty one."""
    assert load(tmp_path, "") == load(tmp_path, TABLE) == WitnessPolicy()


def test_a_table_names_keys_and_how_many_are_required(tmp_path: Path) -> None:
    """And how old their signatures may be; by default two days."""
    keys = (witness_key("w1"), witness_key("w2"))
    assert load(tmp_path, f"{TABLE}{KEYS}required = 2\n") == WitnessPolicy(keys, 2, 48.0)
    table = witnesses_table("w1", "w2", required=1, max_age_hours=0.5)
    assert load(tmp_path, table) == WitnessPolicy(keys, 1, 0.5)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        pytest.param("required = 1", "'keys' is missing", id="no keys"),
        pytest.param("keys = []\nrequired = 1", "'keys': expected a list", id="empty list"),
        pytest.param("keys = [5]\nrequired = 1", "entry 1 is not accepted", id="a number"),
        pytest.param(KEYS, "'required' is missing", id="no number"),
        pytest.param(f"{KEYS}required = 0", "'required': expected a whole number", id="none"),
        pytest.param(f"{KEYS}required = 1.5", "'required': expected a whole number", id="half"),
        pytest.param(f"{KEYS}required = 3", "expected at most 2, .*, found 3", id="too many"),
        pytest.param(
            f"{KEYS}required = 1\nmax_age_hours = 0", "expected a number greater", id="no time"
        ),
        pytest.param(
            f"{KEYS}required = 1\nmax_age_hours = inf", "expected a number greater", id="for ever"
        ),
        pytest.param(
            f"{KEYS}required = 1".replace("+", "+0", 1), "entry 1 is .* its key id", id="key id"
        ),
        pytest.param(
            f'keys = ["{witness_key("w1")}", "{witness_key("w1")}"]\nrequired = 2',
            "expected each name and each key once",
            id="twice",
        ),
        pytest.param(
            f'keys = ["{witness_key("w1")}", "{RENAMED}"]\nrequired = 2',
            "expected each name and each key once",
            id="one key with two names",
        ),
    ],
)
def test_anything_else_is_an_error(tmp_path: Path, table: str, message: str) -> None:
    """A mistake here would trust the wrong witness, or none."""
    with pytest.raises(BadInput, match=message):
        load(tmp_path, f"{TABLE}{table}\n")
