"""Expressions have the values that GitHub gives them."""

from typing import Any

import pytest

from lynx_pipeline_tests.simulators.actions.expressions import (
    ExpressionError,
    condition,
    evaluate,
    interpolate,
    value,
)

CONTEXT: dict[str, Any] = {
    "github": {
        "event_name": "issue_comment",
        "event": {
            "issue": {"labels": [{"name": "bug"}, {"name": "Deploy-Candidate"}, {}], "number": 7},
            "empty": [],
        },
    },
    "needs": {"a": {"result": "success", "outputs": {"x-y": "it's"}}, "b": {"result": "failure"}},
}
GOOD = {"success": True, "failure": False, "cancelled": False}
BAD = {"success": False, "failure": True, "cancelled": False}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'it''s'", "it's"),
        ("1.50", 1.5),
        ("-0x10", -16),
        ("null", None),
        ("github.event_name", "issue_comment"),
        ("GitHub.Event['Issue'].number", 7),
        ("github.event.issue.labels[1].name", "Deploy-Candidate"),
        ("github.event.issue.labels[9].name", None),
        ("github.event.nothing.at.all", None),
        ("github.event.issue.labels.*.name", ["bug", "Deploy-Candidate"]),
        ("needs.*.result", ["success", "failure"]),
        ("needs.a.outputs.x-y", "it's"),
        ("'A' == 'a' && 'a' != 'b'", True),
        ("'' == 0 && null == '' && true == '1' && '1e1' == 10", True),
        ("'a' == 0 || github == github.event", False),
        ("github == github", True),
        ("github.event.empty && 'a list is true'", "a list is true"),
        ("null || '' || 'last'", "last"),
        ("0 && broken", ExpressionError),
        ("!'' && !null && !0", True),
        ("'a' == 'b' || 'a' == 'a' && 'c'", "c"),
        ("('a' == 'b' || 'a') && 'c'", "c"),
        ("contains('Hello', 'ELL')", True),
        ("contains(github.event.issue.labels.*.name, 'deploy-candidate')", True),
        ("contains(github.event.issue.labels.*.name, 'deploy')", False),
        ("startsWith('refs/heads/main', 'REFS/')", True),
        ("endsWith('a.yml', '.yaml')", False),
        ("format('{{{0}}} {1}', 'a', null)", "{a} "),
        ("format('{1}', 'a')", ExpressionError),
        ("fromJSON('[1, {\"a\": true}]')[1].a", True),
        ("toJSON(needs.b)", '{\n  "result": "failure"\n}'),
        ("fromJSON('{')", ExpressionError),
        ("secrets.TOKEN", ExpressionError),
        ("hashFiles('a')", ExpressionError),
        ("contains('a')", ExpressionError),
        ("success()", ExpressionError),
        ("1 < 2", ExpressionError),
        ("(1", ExpressionError),
        ("'a", ExpressionError),
        ("1 2", ExpressionError),
        ("", ExpressionError),
    ],
)
def test_an_expression_has_githubs_value(text: str, expected: object) -> None:
    """Invalid expressions raise an error. So do unknown names, even in unused parts."""
    if expected is ExpressionError:
        with pytest.raises(ExpressionError):
            evaluate(text, CONTEXT)
    else:
        assert evaluate(text, CONTEXT) == expected


def test_expressions_in_text_are_replaced() -> None:
    """A missing property is empty; quoted text may contain braces."""
    assert (
        interpolate("<${{ needs.b.outputs.none }}>${{ '}}' }} ${{ 1 == 1 }}", CONTEXT)
        == "<>}} true"
    )
    assert value(" ${{ github.event.issue.number }} ", CONTEXT) == 7
    assert value("no ${{ 7 }}", CONTEXT) == "no 7"
    for text in ("${{ github }}", "${{ 'open }}", "${{ 1 }} ${{"):
        with pytest.raises(ExpressionError):
            interpolate(text, CONTEXT)


@pytest.mark.parametrize(
    ("text", "after_success", "after_failure"),
    [
        (None, True, False),
        ("github.event_name == 'issue_comment'", True, False),
        ("${{ needs.a.result }}", True, False),
        ("always()", True, True),
        ("${{ !cancelled() && needs.a.outputs.nothing != '' }}", False, False),
        ("${{ !cancelled() }}", True, True),
        ("failure()", False, True),
        ("false", False, False),
        (False, False, False),
        ("'always()'", True, False),
    ],
)
def test_a_condition_requires_success_unless_it_checks_the_status(
    text: str | bool | None, after_success: bool, after_failure: bool
) -> None:
    """This holds with and without ``${{ }}``."""
    assert condition(text, CONTEXT, GOOD) is after_success
    assert condition(text, CONTEXT, BAD) is after_failure


def test_text_around_a_condition_is_an_error() -> None:
    """GitHub would treat it as true, whatever its value."""
    with pytest.raises(ExpressionError, match="always true"):
        condition("${{ 1 }} == 2", CONTEXT, GOOD)
