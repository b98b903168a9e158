"""Settings: read strictly from one table. In prod, most of the environment is ignored."""

from dataclasses import fields
from pathlib import Path

import pytest

from lynx_pipeline.config import (
    EvaluationSettings,
    GitRemote,
    Limits,
    NoProject,
    load_settings,
)
from lynx_pipeline.config.schema import SUBTABLES, ProjectTable, keys
from lynx_pipeline.domain.scorers import NUMERIC
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.errors import BadInput

REQUIRED = '[tool.lynx_pipeline]\nmodel = "m"\neval_set = "e"\nbaseline = "b"\n'


def write(folder: Path, text: str) -> Path:
    """A project with this ``pyproject.toml``."""
    (folder / "pyproject.toml").write_text(text)
    return folder


def test_what_is_not_given_has_a_default(tmp_path: Path) -> None:
    """Default paths are inside the project."""
    found = load_settings(write(tmp_path, REQUIRED), {})
    assert (found.root, found.home) == (tmp_path, tmp_path / ".lynx")
    assert (found.env, found.model) == (Env.DEV, "m")
    assert (found.eval_set, found.baseline) == (tmp_path / "e", tmp_path / "b")
    assert found.registry == tmp_path / ".lynx" / "registry"
    assert found.tracking_uri == f"sqlite:///{tmp_path}/.lynx/mlflow.db"
    assert (found.price_per_hour, found.evaluation) == (0.05, EvaluationSettings())
    assert not found.home.exists()


def test_a_server_needs_no_eval_set_and_no_baseline(tmp_path: Path) -> None:
    """Whatever needs one says that it is missing."""
    found = load_settings(write(tmp_path, '[tool.lynx_pipeline]\nmodel = "m"\n'), {})
    for key in ("eval_set", "baseline"):
        with pytest.raises(BadInput, match=f"'{key}' is missing: .* Only a server"):
            getattr(found, key)


def test_the_project_is_found_from_a_subfolder(tmp_path: Path) -> None:
    """A pyproject.toml without our table belongs to another project."""
    write(tmp_path, REQUIRED)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    write(below, "[tool.other]\nx = 1\n")
    assert load_settings(below, {}).root == tmp_path


def test_a_missing_project_is_an_error(tmp_path: Path) -> None:
    """The message names the folder where the search began."""
    with pytest.raises(NoProject, match=f"no project here: neither {tmp_path} nor a folder above"):
        load_settings(tmp_path, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("[tool", "not valid TOML", id="not TOML"),
        pytest.param("tool = 5", "no project", id="tool not a table"),
        pytest.param("[tool]\nlynx_pipeline = 5", "to be a table", id="ours not a table"),
        pytest.param("[[tool.lynx_pipeline]]\nx = 1", "to be a table", id="ours a list"),
        pytest.param("[tool.lynx_pipeline]", "'model' is missing", id="empty"),
        pytest.param(REQUIRED + "force = true", "unknown key 'force'", id="force"),
        pytest.param(REQUIRED + "tolerance = 0.5", "unknown key 'tolerance'", id="tolerance"),
        pytest.param(REQUIRED.replace('"m"', '""'), "'model'", id="empty model name"),
        pytest.param(REQUIRED.replace('"m"', '"a b"'), "'model'", id="model with a space"),
        pytest.param(REQUIRED.replace('"m"', '"a/b"'), "'model'", id="model with a slash"),
        pytest.param(REQUIRED.replace('"m"', "\"a' OR '1\""), "'model'", id="model with quotes"),
        pytest.param(
            REQUIRED.replace('"m"', "5"),
            "'model': expected letters, .*, found 5",
            id="model a number",
        ),
        pytest.param(REQUIRED + "registry = 5", "'registry'", id="registry a number"),
        pytest.param(
            REQUIRED + "evaluation.answer_column = 1", "the name of a column, found 1", id="column"
        ),
        pytest.param(REQUIRED + 'price_per_hour = "5"', "'price_per_hour'", id="price text"),
        pytest.param(REQUIRED + "price_per_hour = true", "'price_per_hour'", id="price true"),
        pytest.param(REQUIRED + "price_per_hour = nan", "'price_per_hour'", id="price NaN"),
        pytest.param(REQUIRED + "price_per_hour = inf", "'price_per_hour'", id="price infinite"),
        pytest.param(REQUIRED + "price_per_hour = -1.0", "'price_per_hour'", id="price negative"),
        pytest.param(
            REQUIRED + "price_per_hour = -1", "'price_per_hour'", id="price a negative whole number"
        ),
        pytest.param(
            REQUIRED + 'artifact_locations = "s3://x"',
            "expected a list",
            id="location not in a list",
        ),
        pytest.param(
            REQUIRED + "artifact_locations = [5]",
            "such as /mnt/mlruns or s3://",
            id="location a number",
        ),
        pytest.param(
            REQUIRED + 'artifact_locations = ["/"]',
            "such as /mnt/mlruns or s3://.*, found a list, in which entry 1 is not accepted: "
            "everything would be below it",
            id="location everywhere",
        ),
        pytest.param(
            REQUIRED + 'artifact_locations = ["s3://"]',
            "such as /mnt/mlruns or s3://",
            id="location without bucket",
        ),
        pytest.param(
            REQUIRED + 'artifact_locations = ["s3://a", "mlruns"]',
            "such as /mnt.*, in which entry 2 is not accepted: it is a relative path",
            id="location relative",
        ),
        pytest.param(
            REQUIRED + 'artifact_locations = ["/mnt/../etc"]', "such as /mnt", id="location upwards"
        ),
        pytest.param(
            REQUIRED + 'artifact_locations = ["file:mlruns"]',
            "entry 1 is not accepted: it is a relative path",
            id="location a relative URI",
        ),
        pytest.param(
            REQUIRED + 'artifact_locations = ["//nas/share"]',
            "entry 1 is not accepted: it starts with '//', as the name of a share does; mount",
            id="location a share",
        ),
        pytest.param(
            REQUIRED + 'scorer = "exact"', "'scorer': expected .* or numeric/1", id="unknown scorer"
        ),
        pytest.param(
            REQUIRED + 'corpus = "/data/c.jsonl"',
            "'corpus': expected a path",
            id="corpus elsewhere",
        ),
        pytest.param(
            REQUIRED + 'corpus = "c"\ncorpus_checks = "block"',
            "warn or blocking",
            id="corpus checks",
        ),
        pytest.param(
            REQUIRED + 'corpus_checks = "blocking"',
            "'corpus_checks': expected warn, because no 'corpus' is set",
            id="corpus checks without corpus",
        ),
        *(
            pytest.param(REQUIRED + f'aliases.prod = "{name}"', "'prod': expected letters", id=name)
            for name in ("latest", "Latest", "v1", "V12", "a b", "a/b", "", "ä", "x" * 256)
        ),
        pytest.param(
            REQUIRED + 'aliases.dev = "production"', "another alias than", id="one alias for both"
        ),
        *(
            pytest.param(REQUIRED + f"judges = {value}", "'judges': expected a list", id=value)
            for value in ('"x"', "[5]", '["/x"]', '["../x"]', '["."]', '["x/"]', '["a//b"]', '[""]')
        ),
        pytest.param(REQUIRED + "evaluation = 5", "'evaluation'", id="evaluation a number"),
        pytest.param(REQUIRED + "evaluation.x = 5", "unknown key 'x'", id="unknown limit"),
        pytest.param(REQUIRED + "evaluation.batch_size = 0", "greater than 0", id="batch of 0"),
        pytest.param(REQUIRED + "evaluation.batch_size = 1.5", "'batch_size'", id="batch of 1.5"),
        pytest.param(REQUIRED + "evaluation.batch_size = true", "'batch_size'", id="batch of true"),
        pytest.param(REQUIRED + "evaluation.total_seconds = 0.0", "greater than 0", id="0 seconds"),
        pytest.param(
            REQUIRED + "evaluation.total_seconds = nan", "total_seconds", id="NaN seconds"
        ),
        pytest.param(
            REQUIRED + "evaluation.load_seconds = inf", "load_seconds", id="infinite seconds"
        ),
        pytest.param(
            REQUIRED + "evaluation.memory_mib = -1", "greater than 0", id="negative memory"
        ),
        pytest.param(REQUIRED + "evaluation.workers = -1", "0 or more", id="negative workers"),
        pytest.param(
            REQUIRED + 'evaluation.engine = "Ray"', "local or ray", id="engine in capitals"
        ),
        pytest.param(REQUIRED + "evaluation.engine = 1", "'engine'", id="engine a number"),
        pytest.param(
            REQUIRED + 'evaluation.env_manager = "conda"',
            "expected local or uv",
            id="unknown environment manager",
        ),
        pytest.param(
            REQUIRED + "evaluation.env_manager = true",
            "'env_manager'",
            id="environment manager true",
        ),
        pytest.param(
            REQUIRED + 'evaluation.env_manager = "uv"\nevaluation.engine = "ray"',
            "expected local with the engine ray",
            id="uv on Ray",
        ),
    ],
)
def test_an_invalid_setting_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The message names it. A misspelt limit must not leave the default in force."""
    with pytest.raises(BadInput, match=message):
        load_settings(write(tmp_path, text), {})


def test_settings_are_read(tmp_path: Path) -> None:
    """Seconds and prices may be whole numbers."""
    text = REQUIRED + "price_per_hour = 2\nscorer = 'numeric/1'\n"
    text += "evaluation.total_seconds = 5\nevaluation.batch_size = 3\n"
    text += 'evaluation.engine = "ray"\nevaluation.workers = 7\n'
    text += 'evaluation.answer_column = "a label"\n'
    found = load_settings(write(tmp_path, text), {})
    assert (found.price_per_hour, found.scorer) == (2.0, NUMERIC)
    limits = Limits(total_seconds=5.0, batch_size=3)
    assert found.evaluation == EvaluationSettings(
        limits, engine="ray", workers=7, answer_column="a label"
    )
    assert found.evaluation.environments is None
    found = load_settings(write(tmp_path, REQUIRED + 'evaluation.env_manager = "uv"\n'), {})
    assert found.evaluation.environments == found.home / "environments"
    assert (found.corpus, found.corpus_checks) == (None, "warn")
    text = REQUIRED + 'corpus_checks = "blocking"\ncorpus = "data/c.jsonl"\n'
    found = load_settings(write(tmp_path, text), {})
    assert (found.corpus, found.corpus_checks) == (found.root / "data/c.jsonl", "blocking")


def test_an_unknown_key_is_reported_with_the_known_ones(tmp_path: Path) -> None:
    """The nearest key comes first."""
    with pytest.raises(BadInput) as caught:
        load_settings(write(tmp_path, REQUIRED + "evaluation.batch_sizes = 5"), {})
    assert str(caught.value) == (
        f"{tmp_path}/pyproject.toml, [tool.lynx_pipeline.evaluation]: unknown key 'batch_sizes', "
        "did you mean 'batch_size'? (known keys: engine, env_manager, answer_column, workers, "
        "batch_size, batch_seconds, load_seconds, total_seconds, memory_mib, processes, "
        "output_mib, bundle_mib)."
    )


def test_all_problems_are_reported_in_one_paragraph(tmp_path: Path) -> None:
    """The message names the table of each. After five, it only counts the rest."""
    problems = "scorer = 5\nevaluation.engine = 1\n"
    with pytest.raises(BadInput) as caught:
        load_settings(write(tmp_path, REQUIRED + problems), {})
    assert str(caught.value) == (
        f"{tmp_path}/pyproject.toml, [tool.lynx_pipeline]: 'scorer': expected "
        "normalised-exact-match/1 or numeric/1, found 5. [tool.lynx_pipeline.evaluation]: "
        "'engine': expected local or ray, found 1."
    )
    many = "".join(f"unknown{number} = 1\n" for number in range(7))
    with pytest.raises(BadInput, match=r"^[^\n]* And 2 more problems\.$"):
        load_settings(write(tmp_path, REQUIRED + many), {})


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param('"a\\nb"', r"'a\\nb'", id="two lines"),
        pytest.param(f'" {"x" * 200}"', "' x{76}\\.\\.\\.'", id="long text"),
        pytest.param("true", "true", id="a boolean"),
        pytest.param("0x" + "f" * 5000, "a number that is too large", id="a huge number"),
        pytest.param("[1, 2]", "a list", id="a list"),
        pytest.param("{a = 1}", "a table", id="a table"),
        pytest.param("07:32:00", "a date or time", id="a time"),
    ],
)
def test_a_message_abbreviates_the_value(tmp_path: Path, value: str, found: str) -> None:
    """The message stays one line, however long the value is."""
    text = REQUIRED.replace('"m"', value)
    with pytest.raises(BadInput, match=f"found {found}\\.$"):
        load_settings(write(tmp_path, text), {})


def test_a_price_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """The price does not fit into a floating-point number."""
    with pytest.raises(BadInput, match="'price_per_hour'"):
        load_settings(write(tmp_path, REQUIRED + f"price_per_hour = 1{'0' * 400}"), {})


@pytest.mark.parametrize(
    "text",
    [
        'registry = "git+https://user:hunter2@example.org/r"',
        'registry = "git+https://hunter2@example.org/r"',
        'registry = "git+http://user:hunter2@example.org/r"',
        'registry = "git+user:hunter2@example.org:r"',
        'registry = "git+https://user:hunter2@ex\u2100mple.org/r"',
        'registry = "git+https://user:hunter2@[example.org/r"',
        'registry = "git+https://user:hunter2@example.org/r\\n"',
        'registry = ["git+https://user:hunter2@example.org/r"]',
        'registry = {url = "https://user:hunter2@example.org/r"}',
        'artifact_locations = ["https://user:hunter2@example.org/r?a"]',
        'artifact_locations = ["https://example.org/r?signature=hunter2"]',
        'artifact_locations = ["sftp://user:hunter2@example.org/r"]',
        'artifact_locations = ["https://hunter2@example.org/r"]',
        'identity.issuer = "http://user:hunter2@example.org"',
        'pasword = "hunter2"',
    ],
)
def test_no_message_shows_a_password(tmp_path: Path, text: str) -> None:
    """The reason for the refusal may be the password or something else."""
    with pytest.raises(BadInput) as caught:
        load_settings(write(tmp_path, REQUIRED + text), {})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("place", "url", "branch"),
    [
        ("git+https://example.org/r", "https://example.org/r", "lynx-registry"),
        ("git+ssh://git@example.org/r#a/b", "ssh://git@example.org/r", "a/b"),
        ("git+file:///srv/r.git#x", "file:///srv/r.git", "x"),
    ],
)
def test_a_registry_can_be_a_git_branch(tmp_path: Path, place: str, url: str, branch: str) -> None:
    """The branch is set in the project or, in dev, in the environment."""
    folder = write(tmp_path, REQUIRED + f'registry = "{place}"\n')
    assert load_settings(folder, {"LYNX_ENV": "prod"}).registry == GitRemote(url, branch)
    folder = write(tmp_path, REQUIRED)
    assert load_settings(folder, {"LYNX_REGISTRY": place}).registry == GitRemote(url, branch)


@pytest.mark.parametrize("branch", ["a..b", "a.lock", "a b", "-a", "a/", "/a"])
def test_an_invalid_branch_is_refused(tmp_path: Path, branch: str) -> None:
    """The name is checked before git runs."""
    with pytest.raises(BadInput, match="LYNX_REGISTRY: expected a git branch after #"):
        load_settings(write(tmp_path, REQUIRED), {"LYNX_REGISTRY": f"git+file:///r#{branch}"})


def test_every_setting_is_documented() -> None:
    """The reference and the messages need a description and the accepted values of each key."""
    for table in (ProjectTable, *SUBTABLES.values()):
        for name, key in keys(table).items():
            assert key.description and key.expected, name
    assert not {*keys(ProjectTable)} & {*SUBTABLES}
    assert {*keys(ProjectTable), *SUBTABLES} == {it.name for it in fields(ProjectTable)}
