"""A job runs its steps as GitHub's runner does."""

import time
from pathlib import Path

import pytest

from lynx_pipeline_tests.simulators.actions.commands import (
    Annotation,
    Listener,
    MalformedFile,
    Masks,
    parse_env_file,
)
from lynx_pipeline_tests.simulators.actions.conftest import Make, only, results
from lynx_pipeline_tests.simulators.actions.runner import Event


def test_after_a_failure_only_some_steps_run(make: Make) -> None:
    """Steps run if their condition says so. The job's outputs are still set."""
    found = make(
        """
  a:
    outputs: {said: "${{ steps.one.outputs.said }}", empty: "${{ steps.two.outputs.x }}"}
    steps:
      - {id: forgiven, run: exit 3, continue-on-error: true}
      - id: one
        run: |
          said="${{ steps.forgiven.outcome }}/${{ steps.forgiven.conclusion }}"
          echo "said=$said" >>$GITHUB_OUTPUT
          false
          echo not here
      - {id: two, run: echo}
      - {id: three, if: failure(), run: 'echo "${{ job.status }}"'}
      - {id: four, if: "${{ !cancelled() && steps.one.outputs.said == '' }}", run: echo}
  b: {needs: a, steps: [{run: echo}]}
  c: {needs: b, if: "always() && needs.b.result == 'skipped'", steps: [{run: echo}]}
  d: {needs: c, steps: [{run: echo}]}
  e:
    needs: [a, b]
    if: ${{ failure() }}
    steps: [{run: "echo '${{ toJSON(needs) }}'"}]
"""
    ).run()
    assert results(found) == {
        "a": "failure",
        "b": "skipped",
        "c": "success",
        # The condition covers all earlier jobs, not only c.
        "d": "skipped",
        "e": "success",
    }
    a = found.jobs["a"]
    assert [step.outcome for step in a.steps] == ["failure"] * 2 + ["skipped", "success", "skipped"]
    assert (a.step("forgiven").exit_code, a.step("one").exit_code) == (3, 1)
    assert a.step("three").log == "failure\n"
    # Empty outputs are left out.
    assert dict(a.outputs) == {"said": "failure/success"}
    assert '"said": "failure/success"' in found.jobs["e"].log


def test_a_step_passes_values_to_the_next(make: Make) -> None:
    """Variables, paths and outputs are passed. A step's own variables override them; the runner's
    override all. Nothing else of the machine's environment is visible."""
    job = only(
        make(
            """
  a:
    env: {A: job, B: job, C: job}
    steps:
      - id: one
        name: First
        shell: bash
        run: |
          mkdir bin && printf '#!/bin/sh\\necho mine\\n' >bin/own && chmod +x bin/own
          echo "$PWD/bin" >>$GITHUB_PATH
          printf 'A=env\\nB=env\\nGITHUB_SHA=x\\n' >>$GITHUB_ENV
          printf 'two<<END\\na=b\\n\\nc\\nEND\\none=1\\n' >>$GITHUB_OUTPUT
          echo "::set-output name=old::way%0Aup"
          echo '# Good' >>$GITHUB_STEP_SUMMARY
      - env: {A: "${{ env.A }}+step", D: "${{ toJSON(steps.one.outputs) }}"}
        working-directory: bin
        run: |
          echo "$A $B $C $GITHUB_SHA $CI $(basename $PWD) ${HOME##*/} ${SECRET_OF_OURS:-clean}"
          own; echo $D
          cat $GITHUB_EVENT_PATH
""",
            event=Event("workflow_dispatch", {"inputs": None}),
        )
    )
    assert job.result == "success", job.log
    output = job.steps[1].log.splitlines()
    assert output[:2] == [f"env+step env job {'c' * 40} true bin home clean", "mine"]
    assert output[2] == '{ "old": "way\\nup", "two": "a=b\\n\\nc", "one": "1" }'
    assert output[3:] == ["{", '  "inputs": null', "}"]
    assert (job.step("First").summary, job.summary) == ("# Good\n", "# Good\n")


@pytest.mark.parametrize("text", ["no sign", "=x", "<<END\nEND", "a<<\n", "a<<END\nno end"])
def test_a_malformed_file_fails_its_step(make: Make, text: str) -> None:
    """The message is the runner's."""
    with pytest.raises(MalformedFile):
        parse_env_file(text)
    run = f"printf '%b' '{text}' >$GITHUB_OUTPUT".replace("\n", "\\n")
    job = only(make(f'  a: {{steps: [{{run: "{run}"}}]}}\n'.replace("\\n", "\\\\n")))
    assert (job.result, job.steps[0].exit_code) == ("failure", 0)
    assert job.annotations[0].message.startswith("Unable to process file command 'output'")


def test_secrets_are_not_shown(make: Make) -> None:
    """Secrets are masked in logs, annotations and summaries. Outputs with one are dropped."""
    job = only(
        make(
            """
  a:
    outputs: {it: "x ${{ steps.s.outputs.it }}", other: "${{ steps.s.outputs.other }}"}
    steps:
      - id: s
        env: {S: "${{ secrets.KEY }}", N: "<${{ secrets.NONE }}>"}
        run: |
          echo "it=$S" >>$GITHUB_OUTPUT; echo "other=$N" >>$GITHUB_OUTPUT
          echo "$S"; echo "::error title=T%3A::bad%0A$S"; echo "$S" >>$GITHUB_STEP_SUMMARY
          echo ::add-mask::later; echo later
          echo "  ::notice::50%25"; echo "not ::error::this"
          echo ::stop-commands::xyz; echo ::error::quiet; echo ::xyz::; echo ::warning::loud
""",
            secrets={"KEY": "hunter2"},
        )
    )
    assert job.log == (
        "***\n##[error]bad\n***\n::add-mask::***\n***\n##[notice]50%\nnot ::error::this\n"
        "::stop-commands::xyz\n::error::quiet\n::xyz::\n##[warning]loud\n"
    )
    assert job.annotations[:3] == (
        Annotation("error", "bad\n***", "T:"),
        Annotation("notice", "50%"),
        Annotation("warning", "loud"),
    )
    assert job.annotations[3].message.startswith("Skip output 'it'")
    assert job.summary == "***\n"
    assert dict(job.outputs) == {"other": "<>"}


def test_a_command_starts_a_line() -> None:
    """Lines are split as by the runner, not at every Unicode line break."""
    listener = Listener(Masks())
    listener.read("a\u2028::error::b\x85::error::c\n \t::error file=f,title=t::d\r::warning::e\n")
    assert listener.annotations == [Annotation("error", "d", "t"), Annotation("warning", "e")]
    listener.read("::set-env name=LD_PRELOAD::x\n")
    assert listener.broken


def test_steps_and_jobs_time_out(make: Make) -> None:
    """A timed-out step fails. A timed-out job is cancelled, and its processes are killed."""
    start = time.monotonic()
    runner = make(
        """
  a:
    steps:
      - {id: slow, run: sleep 30 & sleep 30, timeout-minutes: 0.005}
      - {id: after, if: "!cancelled()", run: echo}
  b:
    timeout-minutes: 0.01
    steps:
      - {id: slow, run: "(setsid sh -c 'echo $$ >pid; exec sleep 30' &) ; sleep 30"}
      - {id: after, if: "!cancelled()", run: echo}
      - {id: always, if: always(), run: 'echo "${{ job.status }}"'}
"""
    )
    a, b = runner.run().jobs.values()
    assert (a.result, a.step("slow").outcome, a.step("after").outcome) == (
        "failure",
        "failure",
        "success",
    )
    assert (b.result, b.step("slow").outcome, b.step("after").outcome) == (
        "cancelled",
        "cancelled",
        "skipped",
    )
    assert b.step("always").log == "cancelled\n"
    # A zombie process has no command line any more.
    orphan = Path("/proc", (runner.workspace("b") / "pid").read_text().strip(), "cmdline")
    while orphan.exists() and orphan.read_bytes():
        assert time.monotonic() - start < 10
        time.sleep(0.01)
    assert time.monotonic() - start < 10
