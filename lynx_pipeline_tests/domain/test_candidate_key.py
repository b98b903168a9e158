"""Keys of candidates: one spelling each, and safe wherever they are used."""

import json
import re

import pytest
from dagster._core.definitions.partitions.utils.base import (
    raise_error_on_invalid_partition_key_substring,
)
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.candidate_key import CandidateKey, parse_key
from lynx_pipeline.errors import BadInput

RUN = "0123456789abcdef" * 2
MODEL = f"m-{RUN}"

_run_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,255}", fullmatch=True)
_names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).filter(
    lambda name: "/" not in name and name not in (".", "..")
)
_paths = st.just(".") | st.lists(_names, min_size=1, max_size=4).map("/".join)
_keys = (
    st.builds(CandidateKey, _run_ids)
    | st.builds(CandidateKey, _run_ids, path=_paths)
    | st.just(CandidateKey(None, model_id=MODEL))
)


@given(_keys)
def test_a_key_is_read_back_from_its_text(key: CandidateKey) -> None:
    """The text has one meaning."""
    assert parse_key(str(key)) == key


@given(_keys)
def test_the_text_is_safe_in_dagster_json_and_a_shell(key: CandidateKey) -> None:
    """Dagster takes it as a partition, and nothing in it needs quoting."""
    raise_error_on_invalid_partition_key_substring([str(key)])
    assert json.dumps(str(key)) == f'"{key}"'
    assert re.fullmatch(r"[A-Za-z0-9_.~:/%-]+", str(key))


@given(_keys)
def test_the_folder_is_one_short_visible_file_name(key: CandidateKey) -> None:
    """It can't leave its folder, and leaves room for suffixes."""
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,64}", key.folder)


@given(_keys, _keys)
def test_two_candidates_never_share_a_folder(one: CandidateKey, other: CandidateKey) -> None:
    """Not even when the long id of one begins with the id of the other."""
    assert (one == other) == (one.folder == other.folder)


@pytest.mark.parametrize(
    ("text", "key", "folder"),
    [
        pytest.param(RUN, CandidateKey(RUN), RUN, id="run"),
        pytest.param(MODEL, CandidateKey(None, model_id=MODEL), MODEL, id="logged model"),
        pytest.param(
            "5f3b1c9e-0000-4000-8000-1234567890ab",
            CandidateKey("5f3b1c9e-0000-4000-8000-1234567890ab"),
            "5f3b1c9e-0000-4000-8000-1234567890ab",
            id="UUID with dashes",
        ),
        pytest.param(
            "calm_door_abc123", CandidateKey("calm_door_abc123"), "calm_door_abc123", id="AzureML"
        ),
        pytest.param(
            f"{RUN}:checkpoints/step%20100",
            CandidateKey(RUN, path="checkpoints/step 100"),
            f"{RUN}.c4005f8cd446fd17aff74fbb326cab0d",
            id="path",
        ),
    ],
)
def test_keys_and_folders_keep_their_form(text: str, key: CandidateKey, folder: str) -> None:
    """Evidence folders and Dagster's partitions of earlier versions are found again."""
    assert parse_key(text) == key
    assert key.folder == folder


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("../../etc/passwd", id="a path"),
        pytest.param(f"{RUN}\n", id="a line end"),
        pytest.param("-rf", id="an option"),
        pytest.param(".hidden", id="a hidden file"),
        pytest.param("a" * 257, id="too long"),
        pytest.param("$(id)", id="a command"),
        pytest.param('a", "x": "b', id="JSON"),
        pytest.param(f"{RUN}:", id="no path"),
        pytest.param(f"{RUN}:/etc", id="an absolute path"),
        pytest.param(f"{RUN}:model/", id="a slash at the end"),
        pytest.param(f"{RUN}:a//b", id="two slashes"),
        pytest.param(f"{RUN}:a/../b", id="up"),
        pytest.param(f"{RUN}:..", id="up only"),
        pytest.param(f"{RUN}:a/%2E%2E/b", id="up, encoded"),
        pytest.param(f"{RUN}:a b", id="not encoded"),
        pytest.param(f"{RUN}:%61", id="encoded needlessly"),
        pytest.param(f"{RUN}:a%2fb", id="a slash, encoded"),
        pytest.param(f"{RUN}:%ff", id="not UTF-8"),
        pytest.param(f"{RUN}:a%0Ab", id="a line end in the path"),
        pytest.param(f"{RUN}:\udcff", id="half a character"),
        pytest.param(f"{RUN}:{'a' * 2000}", id="too long with its path"),
        pytest.param(f"{RUN}:a...b", id="three dots, which Dagster refuses"),
        pytest.param(f"{MODEL}:model", id="a path in a logged model"),
        pytest.param("models:/grammar-tutor/1", id="a registered model"),
        pytest.param(f"runs:/{RUN}/model", id="a runs URI"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """The message says what a candidate is."""
    with pytest.raises(BadInput, match=r"expected an MLflow run id, .* RUN_ID:PATH"):
        parse_key(text)


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        (f"runs:/{RUN}", RUN),
        (f"runs:/{RUN}/model", f"{RUN}:model"),
        (f"runs:/{RUN}/a b/c", f"{RUN}:a%20b/c"),
    ],
)
def test_a_runs_uri_is_answered_with_the_key_that_it_means(uri: str, key: str) -> None:
    """MLflow's UI shows such URIs, so people copy them."""
    with pytest.raises(BadInput) as caught:
        parse_key(uri)
    assert str(caught.value).endswith(f" Write it as {key}")
    assert str(parse_key(key)) == key


@pytest.mark.parametrize("uri", ["runs:/", f"runs:/{RUN}/../x", f"runs:/{RUN}/", "runs:/a\nb/c"])
def test_other_runs_uris_mean_no_key(uri: str) -> None:
    """Nothing is suggested that would be refused."""
    with pytest.raises(BadInput) as caught:
        parse_key(uri)
    assert "Write it as" not in str(caught.value)
