"""The keys of witnesses, as settings have them."""

import pytest

from lynx_pipeline.domain.release.witnesses import parse_key
from lynx_pipeline_tests.support.signing import witness_key

# Of a witness that others run in public.
PUBLISHED = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"


def test_a_key_is_read_as_others_write_it() -> None:
    """And written as it was read."""
    key = parse_key(PUBLISHED)
    assert (key.name, key.key_id.hex()) == ("remora.n621.de", "da77ade7")
    assert str(key) == PUBLISHED
    assert parse_key(str(witness_key("w1"))) == witness_key("w1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "its name is not one", id="empty"),
        pytest.param(PUBLISHED.replace("remora", "remora/"), "its name is not one", id="slash"),
        pytest.param(PUBLISHED.replace("remora.", "remora.."), "its name is not one", id="dots"),
        pytest.param("../w+da77ade7+BA==", "its name is not one", id="another folder"),
        pytest.param("w1", "not the type 4", id="only a name"),
        pytest.param(PUBLISHED[:-1], "its last part is not base64", id="cut off"),
        pytest.param(f"{PUBLISHED}+", "its last part is not base64", id="a fourth part"),
        pytest.param(PUBLISHED.replace("da77", "da78"), "is not da77ade7", id="another id"),
        pytest.param(PUBLISHED.replace("da77", "DA77"), "is not da77ade7", id="capital id"),
        pytest.param(PUBLISHED.replace("remora", "other"), "its key id is not", id="another name"),
        pytest.param(PUBLISHED.replace("+BOv", "+AOv"), "not the type 4", id="another type"),
        pytest.param(PUBLISHED[:-4], "a key of 32 bytes", id="short key"),
    ],
)
def test_anything_else_is_no_key(text: str, message: str) -> None:
    """The message says which part is wrong."""
    with pytest.raises(ValueError, match=message):
        parse_key(text)
