"""Which comment counts as the release request, and what it requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lynx_pipeline.domain.release.request import (
    LABEL,
    Comment,
    PullRequest,
    Request,
    choose_comment,
    parse_comment,
    read_comment,
)
from lynx_pipeline.errors import BadInput, LynxError, Refused

RUN = "0123456789abcdef" * 2
GOOD = f"mlflow_run_id={RUN} semver=v0.3.1"
AUTHORIZED = {"octocat", "hubot"}


def pull(*, is_open: bool = True, labels: tuple[str, ...] = (LABEL,)) -> PullRequest:
    """An open, labelled pull request, unless the arguments say otherwise."""
    return PullRequest(7, is_open, frozenset(labels), "octocat", "c0ffee")


def comment(
    number: int, author: str = "octocat", body: str = GOOD, edited: bool = False
) -> Comment:
    """A valid request comment, unless the arguments say otherwise."""
    return Comment(number, author, body, edited)


def objection(login: str) -> str | None:
    """The objection to a login that is not authorized."""
    return None if login in AUTHORIZED else f"{login} may not"


# ----- reading a comment -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"  {GOOD}  ",
        f"Please deploy:\r\n\r\n{GOOD}\r\n\r\nThanks!",
        f"`$(rm -rf /)` \"quotes\" '${{{{ github.token }}}}'\n{GOOD}",
    ],
)
def test_one_line_of_a_comment_is_the_request(text: str) -> None:
    """Other lines are ignored."""
    assert parse_comment(text.encode()) == Request(RUN, "v0.3.1")


@pytest.mark.parametrize(
    ("reference", "model"),
    [
        ("5f3b1c9e-0000-4000-8000-1234567890ab", None),
        ("calm_door_abc123", None),
        ("m-" + RUN, None),
        (f"{RUN}:checkpoints/step%20100", None),
        ("models:/grammar-tutor/3", None),
        ("models:/grammar-tutor@champion", None),
        (RUN, "student"),
        (RUN, "checkpoint@300"),
        (RUN, "models/student"),
    ],
)
def test_a_request_may_name_the_model_in_any_form_that_mlflow_has(
    reference: str, model: str | None
) -> None:
    """Which model that is, and whether there is one, is decided later."""
    line = f"mlflow_run_id={reference} semver=v0.3.1" + (f" model={model}" if model else "")
    assert parse_comment(f"Please.\n{line}".encode()) == Request(reference, "v0.3.1", model)
    expected = Request(reference, "v0.3.1", model, "tutor-2.x")
    assert parse_comment(f"{line} gate=tutor-2.x".encode()) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "contains 0 requests", id="nothing"),
        pytest.param("LGTM", "contains 0 requests", id="no request"),
        pytest.param(f"{GOOD}\n{GOOD}", "contains 2 requests", id="twice the same"),
        pytest.param(f"{GOOD}\n> {GOOD}", "contains 2 requests", id="repeated in a quote"),
        pytest.param(f"> {GOOD}", "can't be read", id="quoted only"),
        pytest.param(f"`{GOOD}`", "can't be read", id="as code"),
        pytest.param(f"{GOOD} # now", "can't be read", id="with more on the line"),
        pytest.param(f"semver=v1.0.0 mlflow_run_id={RUN}", "can't be read", id="fields swapped"),
        pytest.param(
            f"mlflow_run_id={RUN}\nsemver=v1.0.0", "contains 2 requests", id="on two lines"
        ),
        pytest.param(f"mlflow_run_id={RUN}  semver=v1.0.0", "can't be read", id="two spaces"),
        pytest.param(f"mlflow_run_id={RUN}\tsemver=v1.0.0", "can't be read", id="a tab"),
        pytest.param(
            f"mlflow_run_id={RUN}\u00a0semver=v1.0.0", "can't be read", id="no-break space"
        ),
        pytest.param(
            f"mlflow_run_id={RUN}\u2028semver=v1.0.0", "can't be read", id="line separator"
        ),
        pytest.param("mlflow_run_id= semver=v1.0.0", "can't be read", id="no run"),
        pytest.param("mlflow_run_id=$(id) semver=v1.0.0", "can't be read", id="a command as run"),
        pytest.param(f"{GOOD} model=", "can't be read", id="no model"),
        pytest.param(f"{GOOD} model=a b", "can't be read", id="a model with a space"),
        pytest.param(f"{GOOD} model=a model=b", "can't be read", id="two models"),
        pytest.param(f"{GOOD} model=`id`", "can't be read", id="a command as model"),
        pytest.param(f"mlflow_run_id={RUN} model=a semver=v1.0.0", "can't be", id="model first"),
        pytest.param(f"mlflow_run_id={RUN[:-1]}\u0430 semver=v1", "can't be", id="a Cyrillic a"),
        pytest.param(f"mlflow_run_\u0456d={RUN} semver=v1.0.0", "can't be read", id="Cyrillic i"),
        pytest.param(f"mlflow_run_id={RUN} \u017femver=v1.0.0", "can't be read", id="long s"),
        pytest.param(f"<!-- {GOOD} -->", "hidden text", id="hidden"),
        pytest.param(f"LGTM <!--\n{GOOD}\n-->", "hidden text", id="hidden on three lines"),
        pytest.param(f"{GOOD};id", "can't be read", id="a shell's semicolon"),
        pytest.param(f"mlflow_run_id={RUN} semver=$(id)", "can't be read", id="a shell's command"),
        pytest.param(f"mlflow_run_id={RUN} semver=${{{{x}}}}", "can't be", id="an expression"),
        pytest.param(f"mlflow_run_id={RUN} semver=v1\x00", "can't be read", id="NUL"),
        pytest.param(f"{GOOD}\n" + "x" * 65_536, "longer than 65536", id="too long"),
    ],
)
def test_text_that_only_resembles_a_request_is_refused(text: str, says: str) -> None:
    """The message shows what a valid request looks like."""
    with pytest.raises(BadInput, match=says) as caught:
        parse_comment(text.encode())
    assert "semver=v1.2.3" in str(caught.value)


@given(st.text(), st.text())
def test_text_around_a_request_never_changes_it(before: str, after: str) -> None:
    """The result is the request on its line, or an error."""
    try:
        found = parse_comment(f"{before}\n{GOOD}\n{after}".encode("utf-8", "surrogatepass"))
    except BadInput:
        return
    assert found == Request(RUN, "v0.3.1")


def test_an_edited_comment_is_refused() -> None:
    """Other users can edit a comment, and could make a request in its author's name."""
    with pytest.raises(Refused, match="edited after it was written"):
        read_comment(comment(1, edited=True))


def test_half_a_surrogate_pair_is_refused() -> None:
    """JSON can contain one, but it is not valid text."""
    with pytest.raises(BadInput, match="not UTF-8"):
        read_comment(comment(1, body=f"{GOOD}\n\ud800"))


# ----- choosing a comment --------------------------------------------------------------------


def test_the_newest_authorized_request_counts() -> None:
    """Other comments and strangers' requests are ignored, in whatever order they are listed."""
    chat = (
        comment(5, "mallory"),
        comment(2),
        comment(3, "hubot"),
        comment(1),
        comment(4, "octocat", "LGTM"),
    )
    assert choose_comment(pull(), chat, objection, "octocat").id == 3
    assert choose_comment(pull(), chat, objection, "octocat", started_by=3).id == 3


def test_the_newest_request_counts_even_if_it_is_invalid() -> None:
    """There is no fallback to an older, valid one, because its author has changed the request."""
    chat = (comment(1), comment(2, body="semver please"))
    assert choose_comment(pull(), chat, objection, "octocat").id == 2
    chat = (comment(1), comment(2, edited=True))
    assert choose_comment(pull(), chat, objection, "octocat").edited


@pytest.mark.parametrize(
    ("what", "chat", "started_by", "says"),
    [
        pytest.param({"is_open": False}, (comment(1),), None, "is closed", id="closed"),
        pytest.param({"labels": ()}, (comment(1),), None, f"no label '{LABEL}'", id="no label"),
        pytest.param(
            {"labels": ("Deploy-Candidate", "deploy-candidates")},
            (comment(1),),
            None,
            "no label",
            id="similar labels",
        ),
        pytest.param({}, (), None, "no comment requests a release.*semver=v1.2.3", id="no comment"),
        pytest.param({}, (comment(1, body="LGTM"),), None, "no comment requests", id="no request"),
        pytest.param({}, (comment(1, "mallory"),), None, "mallory may not", id="a stranger"),
        pytest.param(
            {}, (comment(1, "mallory"),), 1, "mallory may not", id="started by a stranger"
        ),
        pytest.param(
            {},
            (comment(1), comment(2, "mallory")),
            2,
            "mallory may not",
            id="newer request by a stranger",
        ),
        pytest.param(
            {}, (comment(1), comment(2)), 1, "a newer request has its own run", id="superseded"
        ),
        pytest.param({}, (comment(2),), 1, "it was deleted", id="deleted"),
        pytest.param({}, (), 1, "it was deleted", id="deleted, the only one"),
        pytest.param(
            {}, (comment(1, body="never mind"),), 1, "no longer a request", id="withdrawn"
        ),
    ],
)
def test_without_an_authorized_current_request_the_run_is_refused(
    what: dict[str, object], chat: tuple[Comment, ...], started_by: int | None, says: str
) -> None:
    """The refusal says why."""
    with pytest.raises(Refused, match=says):
        choose_comment(pull(**what), chat, objection, "octocat", started_by)  # type: ignore[arg-type]


def test_the_user_who_triggers_the_run_must_be_authorized_too() -> None:
    """Otherwise setting the label or re-running a workflow could revive an old request."""
    with pytest.raises(
        Refused, match=r"octocat requested .* triager triggered this run: triager may not"
    ) as it:
        choose_comment(pull(), (comment(1),), objection, "triager")
    assert "octocat can set the label again, write a new comment" in str(it.value)
    assert choose_comment(pull(), (comment(1),), objection, "hubot").id == 1


@given(
    st.lists(
        st.builds(
            Comment,
            st.integers(1, 9),
            st.sampled_from(["octocat", "hubot", "mallory"]),
            st.sampled_from([GOOD, "LGTM", "semver?"]),
            st.booleans(),
        ),
        unique_by=lambda c: c.id,
    )
)
def test_the_choice_agrees_with_a_plain_search(chat: list[Comment]) -> None:
    """The search checks the comments one by one, newest first."""
    newest_first = sorted(chat, key=lambda c: c.id, reverse=True)
    expected = None
    for one in newest_first:
        if "semver" in one.body and one.author in AUTHORIZED:
            expected = one
            break
    try:
        assert choose_comment(pull(), chat, objection, "octocat") == expected
    except LynxError:
        assert expected is None
