"""Which values of a run's tags become links in the UI."""

import pytest
from dagster import UrlMetadataValue

from lynx_pipeline.defs.metadata import pull_request_metadata
from lynx_pipeline.evaluation.candidate import PULL_REQUEST_TAG

PULLS = [
    "https://github.com/acme/tutor/pull/7",
    "https://github.example:8443/acme/my.tutor_2/pull/123",
    "http://127.0.0.1:3000/acme/tutor/pull/1",
]
INVALID = {
    "empty": "",
    "a JavaScript URL": "javascript:alert(1)//pull/7",
    "a password": "https://me:s3cret@github.com/acme/tutor/pull/7",
    "a query": "https://github.com/acme/tutor/pull/7?next=elsewhere",
    "no number": "https://github.com/acme/tutor/pull/",
    "a page below it": "https://github.com/acme/tutor/pull/7/files",
    "a trailing newline": "https://github.com/acme/tutor/pull/7\n",
    "a non-ASCII digit": "https://github.com/acme/tutor/pull/\u0667",
}


@pytest.mark.parametrize("page", PULLS)
def test_a_pull_request_is_a_link(page: str) -> None:
    """The server may be GitHub or a company's own."""
    assert pull_request_metadata({PULL_REQUEST_TAG: page}) == {
        "pull_request": UrlMetadataValue(page)
    }


@pytest.mark.parametrize("page", INVALID.values(), ids=INVALID.keys())
def test_a_tag_that_names_no_pull_request_is_not_shown(page: str) -> None:
    """Anybody who can tag a run controls the value."""
    assert pull_request_metadata({PULL_REQUEST_TAG: page}) == {}
    assert pull_request_metadata({}) == {}
