"""Which places of artifacts can be named, and which are the same."""

import pytest

from lynx_pipeline.domain.artifact_location import InvalidLocation, is_too_wide, parse_location


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mlruns", "a relative path"),
        ("./mlruns", "a relative path"),
        ("~/mlruns", "a relative path"),
        ("file:mlruns", "a relative path"),
        ("file:./mlruns", "a relative path"),
        ("file:~/mlruns", "a relative path"),
        ("FILE:/mlruns", "a relative path"),
        ("dbfs:models", "a relative path"),
        ("mlflow-artifacts:models", "a relative path"),
        ("//nas/share", "the name of a share"),
        ("file:////nas/share", "the name of a share"),
        ("file://nas/share", "can't name another host"),
        ("C:/mlruns", "a path of Windows"),
        ("c:\\mlruns", "a path of Windows"),
        ("\\\\nas\\share", "a relative path"),
        ("s3:bucket/x", "no bucket or host"),
        ("s3:/bucket/x", "no bucket or host"),
        ("s3:///bucket", "no bucket or host"),
        ("gs:bucket", "no bucket or host"),
        ("https:/host/x", "no bucket or host"),
        ("models:/tutor/1", "names a model"),
        ("runs:/0123/model", "names a model"),
    ],
)
def test_what_mlflow_cannot_fetch_from_is_no_location(text: str, reason: str) -> None:
    """It would stand in the settings and never match, or match another place than was meant."""
    with pytest.raises(InvalidLocation, match=reason):
        parse_location(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/mnt/x", "file:/mnt/x"),
        ("/mnt/x", "file:///mnt/x/"),
        ("/mnt/x", "file://localhost/mnt/x"),
        ("/mnt/x", "///mnt//x"),
        ("/mnt/a b", "file:///mnt/a%20b"),
        ("s3://b/x", "S3://b/x/"),
        ("dbfs:/x", "dbfs:/x/"),
    ],
)
def test_every_form_of_a_place_is_the_same(one: str, other: str) -> None:
    """MLflow reads both alike."""
    assert parse_location(one) == parse_location(other)


@pytest.mark.parametrize(
    "text", ["dbfs:", "hdfs:/x", "viewfs:/x", "hdfs://n:8020/x", "r2://b@a.example/x", "own:/x"]
)
def test_other_stores_are_places(text: str) -> None:
    """Some need no host, and plugins add schemes."""
    assert not is_too_wide(parse_location(text))
