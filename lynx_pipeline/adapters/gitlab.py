"""The part of GitLab that a report needs: this job's pipeline, and the notes on a merge request.

The runner sets the addresses and ids, and the job's environment the token. No message contains the
token.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lynx_pipeline.domain.release.own_comment import marked, writer
from lynx_pipeline.errors import BadInput, SystemFailed

_SECONDS = 30
_TRIES = 3
_PAGE = 100
_TRANSIENT = (429, 502, 503, 504)


def pipeline_id() -> int:
    """The id of this pipeline. Later pipelines have greater ids.

    Raises:
        BadInput: this is not a job of a pipeline.
    """
    text = _variable("CI_PIPELINE_ID")
    if not re.fullmatch("[0-9]{1,18}", text):
        raise BadInput(f"CI_PIPELINE_ID is {text!r:.40}: expected a number, as GitLab sets it.")
    return int(text)


def pipeline_url() -> str:
    """The address of this pipeline's page.

    Raises:
        BadInput: this is not a job of a pipeline.
    """
    return _variable("CI_PIPELINE_URL")


class GitLab:
    """The project that this pipeline belongs to.

    Every method raises SystemFailed if GitLab can't be reached or refuses the token.
    """

    def __init__(self) -> None:
        """Create the client. This sends no request.

        Raises:
            BadInput: an environment variable is missing.
        """
        api, project = _variable("CI_API_V4_URL"), _variable("CI_PROJECT_ID")
        self._page = _variable("CI_PROJECT_URL")
        token = os.environ.get("GITLAB_TOKEN", "")
        if not token:
            raise BadInput(
                "GitLab can't be used: GITLAB_TOKEN is not set. Create a project access token with "
                "the scope api, and set it as a variable of the environment that this job has."
            )
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        self._url = api
        self._notes = f"projects/{project}/merge_requests/{{}}/notes"
        self._session = requests.Session()
        # A note that was sent twice would be there twice, so POST is not repeated.
        retry = Retry(
            _TRIES,
            backoff_factor=0.5,
            status_forcelist=_TRANSIENT,
            allowed_methods=("GET", "PUT"),
            raise_on_status=False,
        )
        self._session.mount(api, HTTPAdapter(max_retries=retry))
        self._session.auth = lambda request: request  # otherwise requests adds that of ~/.netrc
        self._session.headers["PRIVATE-TOKEN"] = token
        # The authority of a GitLab that has its own; the runner sets it.
        self._session.verify = os.environ.get("CI_SERVER_TLS_CA_FILE") or True

    def upsert_note(self, merge_request: int, name: str, pipeline: int, text: str) -> str | None:
        """Set our note called ``name`` to ``text``, on behalf of this pipeline. Create it if it is
        missing. A note that a later pipeline wrote is kept.

        Returns the note's address, or None if a later pipeline's note was kept.
        """
        body = marked(name, pipeline, text)
        notes = self._notes.format(merge_request)
        with self._requesting(f"writing a note on merge request {merge_request}"):
            me = self._request("GET", "user").json()["id"]
            for note in self._all(notes):
                before = writer(name, note["body"] or "")
                if note["author"]["id"] == me and before is not None:
                    if before > pipeline:
                        return None
                    self._request("PUT", f"{notes}/{int(note['id'])}", body)
                    return self._address(merge_request, note)
            return self._address(merge_request, self._request("POST", notes, body).json())

    def _all(self, path: str) -> Iterator[dict[str, Any]]:
        """The objects of all pages, oldest first."""
        page = "1"
        while page:
            query = f"{path}?sort=asc&order_by=created_at&per_page={_PAGE}&page={int(page)}"
            response = self._request("GET", query)
            yield from response.json()
            page = response.headers.get("X-Next-Page", "")

    def _request(self, method: str, path: str, body: str | None = None) -> Any:
        response = self._session.request(
            method,
            f"{self._url}/{path}",
            json=None if body is None else {"body": body},
            timeout=_SECONDS,
            allow_redirects=False,  # the token is for this server
        )
        if response.status_code not in (200, 201):
            raise _Status(response)
        return response

    def _address(self, merge_request: int, note: dict[str, Any]) -> str:
        return f"{self._page}/-/merge_requests/{merge_request}#note_{int(note['id'])}"

    @contextmanager
    def _requesting(self, action: str) -> Iterator[None]:
        """Turn every way in which the block's requests can fail into a SystemFailed."""
        try:
            yield
        except _Status as error:
            why = str(error)
        except OSError as error:  # those of requests are, too
            why = type(error).__name__
        except (AttributeError, ValueError, TypeError, KeyError) as error:
            why = f"it returned malformed output: {type(error).__name__}"
        else:
            return
        raise SystemFailed(
            f"GitLab at {self._url}: {action} failed: {why}. Check that GITLAB_TOKEN is valid and "
            "has the scope api, and GitLab's status, then run the job again."
        ) from None


class _Status(Exception):
    """A response that is an error, and what GitLab says about it."""

    def __init__(self, response: Any) -> None:
        try:
            values = response.json()
            message = values.get("message") or values.get("error")
        except (ValueError, AttributeError):
            message = None
        reason = str(message or "no reason given")[:200]
        super().__init__(f"status {response.status_code}, {reason!r}")


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise BadInput(
            f"not running in GitLab CI/CD: {name} is not set. Run this command in a job of the "
            "pipeline that docs/gitlab.md shows."
        )
    return value
