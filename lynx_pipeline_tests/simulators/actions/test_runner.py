"""A run does what GitHub does with its jobs: which start, what they may, what is tried again."""

from dataclasses import replace

import pytest

from lynx_pipeline_tests.simulators.actions import fake_github
from lynx_pipeline_tests.simulators.actions.conftest import (
    DOWNLOAD,
    PIN,
    UPLOAD,
    Make,
    only,
    results,
)
from lynx_pipeline_tests.simulators.actions.job import Cancelled, Hooks
from lynx_pipeline_tests.simulators.actions.runner import Event
from lynx_pipeline_tests.simulators.actions.workflow import NotModelled

# ----- what starts it, and what it may ------------------------------------------------------


def test_only_the_workflows_events_start_it(make: Make) -> None:
    """With the right activity; nothing runs otherwise."""
    runner = make("  a: {steps: [{run: echo}]}\n")
    text = runner.workflow.read_text()
    runner.workflow.write_text(
        text.replace("on: workflow_dispatch", "on: {issue_comment: {types: [created]}}")
    )
    assert runner.run().jobs == {}
    for action, jobs in (("edited", []), ("created", ["a"])):
        event = Event("issue_comment", {"action": action})
        found = replace(runner, event=event, run_attempt=len(jobs) + 2).run()
        assert list(found.jobs) == jobs


def test_a_job_has_an_identity_only_if_it_may(make: Make) -> None:
    """Its token says which job it is for; another job has nothing to ask for one with."""
    ask = """
      - id: ask
        run: |
          url="${ACTIONS_ID_TOKEN_REQUEST_URL:-}"
          [ -z "$url" ] && { echo none; exit; }
          curl -sS -H "Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" "$url&audience=x" |
            python3 -c '
          import base64, json, sys
          body = json.load(sys.stdin)["value"].split(".")[1]
          claims = json.loads(base64.urlsafe_b64decode(body + "=="))
          print(claims["job_workflow_ref"], claims.get("environment"), claims["sub"])'
"""
    found = make(
        "  with:\n    permissions: {id-token: write}\n    environment: production\n    steps:"
        + ask
        + "  without:\n    permissions: {contents: read}\n    steps:"
        + ask
    ).run()
    assert found.jobs["with"].log == (
        "octo-org/octo-repo/.github/workflows/try.yml@refs/heads/main production "
        "repo:octo-org/octo-repo:environment:production\n"
    )
    assert found.jobs["without"].log == "none\n"


def test_a_jobs_token_may_what_the_job_may_and_ends_with_it(make: Make) -> None:
    """It is in the environment only where the workflow puts it."""
    runner = make(
        """
  a:
    permissions: {pull-requests: read}
    steps:
      - run: env | grep -c ghs_ || echo "not there"
      - env: {T: "${{ github.token }}"}
        run: |
          ask() { curl -s -o out -w "%{http_code}\\n" -H "Authorization: token $T" "$@"; }
          ask $GITHUB_API_URL/repos/$GITHUB_REPOSITORY/pulls/7
          ask $GITHUB_API_URL/repos/$GITHUB_REPOSITORY/issues/7/comments -d '{"body": "x"}'
"""
    )
    runner.github.pulls[7] = fake_github.PullRequest(7)
    job = only(runner)
    assert job.result == "success", job.log
    assert job.log == "0\nnot there\n200\n403\n"
    assert job.token not in runner.github.tokens
    assert runner.github.requests[-1].token == job.token


def test_permissions_have_to_be_declared(make: Make) -> None:
    """A repository's setting would decide otherwise."""
    runner = make("  a: {steps: [{run: echo}]}\n")
    runner.workflow.write_text(runner.workflow.read_text().replace("permissions: {}\n", ""))
    with pytest.raises(NotModelled, match="permissions"):
        runner.run()


@pytest.mark.parametrize(
    "text",
    [
        "  a: {steps: [{run: echo}], strategy: {}}\n",
        "  a: {steps: [{run: echo, shell: python}]}\n",
        "  a: {steps: [{run: echo, with: {}, unknown: 1}]}\n",
        "  a: {steps: [{uses: actions/checkout@v6}]}\n",
        f"  a: {{steps: [{{uses: actions/cache@{PIN}}}]}}\n",
        f"  a: {{steps: [{{uses: actions/checkout@{PIN}, with: {{lfs: true}}}}]}}\n",
        "  a: {needs: b, steps: [{run: echo}]}\n",
    ],
)
def test_what_is_not_modelled_raises(make: Make, text: str) -> None:
    """Nothing is passed over in silence."""
    with pytest.raises(NotModelled):
        make(text).run()


def test_a_hook_for_nothing_raises(make: Make) -> None:
    """A scenario with a slip would test nothing."""
    hooks = Hooks(wrap={"a/no": ["false"]})
    with pytest.raises(ValueError, match="a/no"):
        make("  a: {steps: [{run: echo, name: yes}]}\n", hooks=hooks).run()


# ----- a scenario ---------------------------------------------------------------------------


def test_a_scenario_interferes(make: Make) -> None:
    """It acts before a step, kills one, changes a variable, cancels the run."""
    seen = []

    def cancel() -> None:
        raise Cancelled

    hooks = Hooks(
        before={"a/one": lambda: seen.append("before"), "b/And go": cancel},
        wrap={"a/killed": ["sh", "-c", '"$@" & sleep 0.1; kill -9 $$', "sh"]},
        extra_env={"a": {"V": "job"}, "a/one": {"V": "step"}},
    )
    found = make(
        """
  a:
    steps:
      - {id: one, run: echo $V}
      - {id: two, run: echo $V}
      - {id: killed, run: sleep 5, continue-on-error: true}
  b:
    steps: [{run: echo}, {name: And go, run: echo}, {if: cancelled(), run: echo}]
  c: {steps: [{run: echo}]}
  d: {needs: b, if: always(), steps: [{run: echo}]}
  e: {needs: b, steps: [{run: echo}]}
""",
        hooks=hooks,
    ).run()
    a, b = found.jobs["a"], found.jobs["b"]
    assert seen == ["before"]
    assert (a.step("one").log, a.step("two").log) == ("step\n", "job\n")
    assert a.step("killed").exit_code == 137
    assert [step.outcome for step in b.steps] == ["success", "skipped", "success"]
    assert results(found) == {
        "a": "success",
        "b": "cancelled",
        "c": "cancelled",
        "d": "success",
        "e": "skipped",
    }


# ----- a run again --------------------------------------------------------------------------

THREE = f"""
  first:
    outputs: {{n: "${{{{ steps.n.outputs.n }}}}"}}
    steps:
      - {{id: n, run: 'echo n=$GITHUB_RUN_ATTEMPT | tee f >>$GITHUB_OUTPUT'}}
      - {{{UPLOAD}, with: {{name: f, path: f}}}}
  second:
    needs: first
    steps:
      - {{{DOWNLOAD}, with: {{name: f}}}}
      - run: grep n=1 f; [ $GITHUB_RUN_ATTEMPT = 2 ]
      - {{{UPLOAD}, with: {{name: g, path: f}}}}
  third:
    needs: [first, second]
    if: always()
    steps: [{{run: 'echo ${{{{ needs.first.outputs.n }}}} ${{{{ needs.second.result }}}}'}}]
"""


def test_a_run_again_keeps_what_succeeded(make: Make) -> None:
    """Failed jobs, and those that need them, run again with the artifacts there are."""
    runner = make(THREE)
    first = runner.run()
    assert results(first) == {
        "first": "success",
        "second": "failure",
        "third": "success",
    }
    second = runner.rerun_failed(first)
    assert second.attempt == 2
    assert second.jobs["first"] is first.jobs["first"]
    assert second.jobs["second"].result == "success", second.jobs["second"].log
    assert (first.jobs["third"].log, second.jobs["third"].log) == ("1 failure\n", "1 success\n")
    assert not (first.artifacts / "g.zip").exists()


def test_runs_share_their_first_jobs(make: Make) -> None:
    """Each starts after them with artifacts of its own."""
    begun = make(THREE).run().only("first")
    for number in (2, 3):
        runner = make(THREE, work=make(THREE).work / str(number), run_attempt=number)
        found = runner.run(begun)
        assert list(found.jobs) == ["first", "second", "third"]
        assert found.jobs["first"] is begun.jobs["first"]
        assert found.jobs["second"].result == ("success" if number == 2 else "failure")
    assert sorted(file.name for file in begun.artifacts.iterdir()) == ["f.json", "f.zip"]
