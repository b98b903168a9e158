"""A run treats its jobs as GitHub does: which ones start, their permissions, and re-runs."""

from dataclasses import replace

import pytest

from lynx_pipeline_tests.simulators.actions.conftest import (
    DOWNLOAD,
    PIN,
    UPLOAD,
    Make,
    only,
    results,
)
from lynx_pipeline_tests.simulators.actions.github_records import PullRequest
from lynx_pipeline_tests.simulators.actions.job import Cancelled, Hooks
from lynx_pipeline_tests.simulators.actions.runner import Event
from lynx_pipeline_tests.simulators.actions.workflow import NotModelled

# ----- events and permissions ---------------------------------------------------------------


def test_only_the_workflows_events_start_it(make: Make) -> None:
    """The activity type must match too."""
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


def test_a_job_gets_an_identity_only_with_permission(make: Make) -> None:
    """The token names the job's workflow and environment. Other jobs can't request one."""
    ask = """
      - id: ask
        run: |
          [ -n "${ACTIONS_ID_TOKEN_REQUEST_URL:-}" ] || { echo none; exit; }
          python3 -c '
          import base64, json, os, urllib.request
          request = urllib.request.Request(
              os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=x",
              headers={"Authorization": "bearer " + os.environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]},
          )
          body = json.load(urllib.request.urlopen(request))["value"].split(".")[1]
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


def test_a_jobs_token_has_the_jobs_permissions_and_expires_with_it(make: Make) -> None:
    """The token is in the environment only if the workflow puts it there."""
    runner = make(
        """
  a:
    permissions: {pull-requests: read}
    steps:
      - run: env | grep -c ghs_ || echo "not there"
      - env: {T: "${{ github.token }}"}
        run: |
          python3 -c '
          import json, os, urllib.error, urllib.request
          api = os.environ["GITHUB_API_URL"] + "/repos/" + os.environ["GITHUB_REPOSITORY"]
          headers = {"Authorization": "token " + os.environ["T"]}
          comment = json.dumps({"body": "x"}).encode()
          for path, body in (("/pulls/7", None), ("/issues/7/comments", comment)):
              try:
                  request = urllib.request.Request(api + path, body, headers)
                  print(urllib.request.urlopen(request).status)
              except urllib.error.HTTPError as error:
                  print(error.code)'
"""
    )
    runner.github.pulls[7] = PullRequest(7)
    job = only(runner)
    assert job.result == "success", job.log
    assert job.log == "0\nnot there\n200\n403\n"
    assert job.token not in runner.github.tokens
    assert runner.github.requests[-1].token == job.token


def test_permissions_must_be_declared(make: Make) -> None:
    """Otherwise the repository's settings would decide."""
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
def test_anything_not_modelled_raises(make: Make, text: str) -> None:
    """Nothing is ignored silently."""
    with pytest.raises(NotModelled):
        make(text).run()


def test_a_hook_for_an_unknown_step_raises(make: Make) -> None:
    """A misspelt name would make a scenario test nothing."""
    hooks = Hooks(wrap={"a/no": ["false"]})
    with pytest.raises(ValueError, match="a/no"):
        make("  a: {steps: [{run: echo, name: yes}]}\n", hooks=hooks).run()


# ----- hooks --------------------------------------------------------------------------------


def test_hooks_act_on_a_run(make: Make) -> None:
    """Hooks act before a step, kill one, change a variable, and cancel the run."""
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


# ----- re-runs ------------------------------------------------------------------------------

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


def test_a_re_run_keeps_successful_jobs(make: Make) -> None:
    """Failed jobs, and those that need them, run again with the existing artifacts."""
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


def test_runs_can_share_their_first_jobs(make: Make) -> None:
    """Each run continues after them with its own copy of the artifacts."""
    begun = make(THREE).run().only("first")
    for number in (2, 3):
        runner = make(THREE, work=make(THREE).work / str(number), run_attempt=number)
        found = runner.run(begun)
        assert list(found.jobs) == ["first", "second", "third"]
        assert found.jobs["first"] is begun.jobs["first"]
        assert found.jobs["second"].result == ("success" if number == 2 else "failure")
    assert sorted(file.name for file in begun.artifacts.iterdir()) == ["f.json", "f.zip"]


def test_a_job_reads_only_the_secrets_of_its_environment(make: Make) -> None:
    """An environment's secret overrides the repository's, and no other job gets it."""
    jobs = make(
        """
  a:
    environment: outer
    steps: [{id: s, env: {S: "${{ secrets.X }}"}, run: 'test "$S" = outer'}]
  b:
    environment: inner
    steps: [{id: s, env: {S: "${{ secrets.X }}"}, run: 'test "$S" = inner'}]
  c:
    steps: [{id: s, env: {S: "${{ secrets.X }}${{ secrets.Y }}"}, run: 'test "$S" = all'}]
""",
        secrets={"X": "all"},
        environment_secrets={"outer": {"X": "outer", "Y": "outer"}, "inner": {"X": "inner"}},
    )
    assert results(jobs.run()) == dict.fromkeys("abc", "success")


def test_github_lists_the_jobs_of_a_run(make: Make) -> None:
    """By their names, in each attempt that ran them. The name of a skipped job is not evaluated."""
    runner = make(
        """
  a:
    outputs: {o: "${{ steps.s.outputs.o }}"}
    steps: [{id: s, run: 'echo o=x >>"$GITHUB_OUTPUT"'}]
  b:
    needs: a
    name: See ${{ needs.a.outputs.o }}
    steps: [{run: 'exit 1'}]
  c:
    needs: b
    name: See ${{ needs.b.result }}
    steps: [{run: 'true'}]
""",
        run_id="7",
    )
    runner.rerun_failed(runner.run())
    (run,) = (it for it in runner.github.runs if it.id == "7")
    skipped = "See ${{ needs.b.result }}"
    assert [(it.name, it.attempt, it.conclusion) for it in run.jobs] == [
        ("a", 1, "success"),
        ("See x", 1, "failure"),
        (skipped, 1, "skipped"),
        ("See x", 2, "failure"),
        (skipped, 2, "skipped"),
    ]
