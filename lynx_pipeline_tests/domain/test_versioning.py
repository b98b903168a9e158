"""Which versions are valid in which environment."""

import pytest

from lynx_pipeline.domain.versioning import Env, Version, check_semver
from lynx_pipeline.errors import BadInput


@pytest.mark.parametrize(
    ("text", "env"),
    [
        *((text, Env.PROD) for text in ("v0.0.0", "v0.3.1", "v10.20.30", "v999999999.0.0")),
        *((text, Env.DEV) for text in ("v0.0.0-dev", "v1.2.3-dev.0", "v1.2.3-dev.17")),
    ],
)
def test_a_version_in_its_environment_is_allowed(text: str, env: Env) -> None:
    """Plain versions in prod, dev versions in dev, and never the other way round."""
    assert check_semver(text, env) == Version(*map(int, text[1:].split("-")[0].split(".")))
    with pytest.raises(BadInput, match="can't name a promotion"):
        check_semver(text, Env.DEV if env is Env.PROD else Env.PROD)


@pytest.mark.parametrize("env", Env)
@pytest.mark.parametrize(
    "text",
    [
        *("", "latest", "0.3.1", "V0.3.1", "v1", "v1.2", "v1.2.3.4", "v01.2.3", "v1.02.3"),
        *("v1.2.3+build", "v1.2.3-dev+build", "v1.2.3-rc.1", "v1.2.3-Dev", "v1.2.3-dev.01"),
        *("v1.2.3-dev.", "v1.2.3-dev.x", "v1.2.3-dev.1.2", "v1.2.3-", "v-1.2.3", "v1.2.3 "),
        *(" v1.2.3", "v1.2.3\n", "v1.2.3-dev\n", "v１.2.3", "v1000000000.0.0", "v1.2.3-dev-dev"),  # noqa: RUF001
        *("v1.2.3\x00", "v1_0.2.3", "v1.2.3/../v1.2.4", "v" + "9" * 5000 + ".0.0"),
    ],
)
def test_any_other_text_is_refused(text: str, env: Env) -> None:
    """Including build metadata, other pre-releases, leading zeros and a trailing newline."""
    with pytest.raises(BadInput, match="can't name a promotion"):
        check_semver(text, env)
