"""The actions have the same effects as the real ones."""

from dataclasses import replace
from pathlib import Path

from lynx_pipeline_tests.simulators.actions.conftest import DOWNLOAD, PIN, UPLOAD, Make
from lynx_pipeline_tests.simulators.actions.job import Hooks
from lynx_pipeline_tests.support import git_server
from lynx_pipeline_tests.support.places import OnGit, git

FILES = "mkdir -p d/.hidden d/sub; touch d/a d/.b d/.hidden/c d/sub/e; ln -s nowhere d/broken"


def test_artifacts_pass_between_jobs(make: Make) -> None:
    """Hidden files are left out by default. A single file has no folder; several paths are relative
    to their common folder."""
    found = make(
        f"""
  a:
    outputs: {{digest: "${{{{ steps.up.outputs.artifact-digest }}}}"}}
    steps:
      - run: {FILES}
      - {{id: up, {UPLOAD}, with: {{name: plain, path: d}}}}
      - {{{UPLOAD}, with: {{name: all, path: d/, include-hidden-files: true}}}}
      - {{{UPLOAD}, with: {{name: one, path: d/sub/e}}}}
      - {{{UPLOAD}, with: {{name: hidden, path: d/.hidden, if-no-files-found: ignore}}}}
      - {UPLOAD}
        with:
          name: several
          path: |
            d/s*/
            d/a
      - {{{UPLOAD}, with: {{name: none, path: x/*}}}}
  b:
    needs: a
    steps:
      - run: mkdir -p into/plain; touch into/plain/here
      - {{{DOWNLOAD}, with: {{name: plain, path: into/plain}}}}
      - {{{DOWNLOAD}, with: {{name: all, path: into/all}}}}
      - {{{DOWNLOAD}, with: {{name: one, path: into/one}}}}
      - {{{DOWNLOAD}, with: {{name: several, path: into/several}}}}
      - run: cd into && find . -type f | sort
      - {{id: no, {DOWNLOAD}, with: {{name: hidden}}}}
"""
    ).run()
    a, b = found.jobs.values()
    assert a.result == "success", a.log
    assert len(a.outputs["digest"]) == 64
    assert a.annotations[0].message.startswith("No files were found")
    assert b.steps[5].log.split() == [
        *("./all/.b", "./all/.hidden/c", "./all/a", "./all/sub/e"),
        "./one/e",
        *("./plain/a", "./plain/here", "./plain/sub/e"),
        *("./several/a", "./several/sub/e"),
    ]
    assert "not found for name: hidden" in b.step("no").log


def test_an_invalid_artifact_is_refused(make: Make) -> None:
    """Refused are a duplicate name, required files that are missing, and changed content."""
    text = f"""
  a:
    steps:
      - run: touch f
      - {{{UPLOAD}, with: {{name: n, path: f}}}}
      - {{id: again, {UPLOAD}, with: {{name: n, path: f}}, continue-on-error: true}}
      - {{id: none, {UPLOAD}, with: {{name: m, path: g, if-no-files-found: error}}}}
  b:
    needs: a
    if: always()
    steps: [{{{DOWNLOAD}, with: {{name: n}}}}]
"""
    runner = make(text)
    archive = runner.artifacts / "n.zip"
    before = {"b": lambda: archive.write_bytes(archive.read_bytes() + b"more")}
    runner = replace(runner, hooks=Hooks(before=before))
    found = runner.run()
    assert "(409) Conflict" in found.jobs["a"].step("again").log
    assert found.jobs["a"].step("none").outcome == "failure"
    assert "digest validation failed" in found.jobs["b"].log
    lenient = replace(runner, digest_mismatch="warn", work=runner.work / "warn")
    archive = lenient.artifacts / "n.zip"
    assert lenient.run().jobs["b"].result == "success"


def test_a_checkout_has_the_commit_of_the_run(make: Make, tmp_path: Path) -> None:
    """This holds even if the branch has moved on. By default the clone keeps the token, whose
    permissions decide whether a push works."""
    bare, author = OnGit.new(tmp_path / "served/octo.git").bare, tmp_path / "author"
    git(tmp_path, "init", "--quiet", "-b", "main", author.name)
    for number in range(3):
        (author / "file").write_text(f"{number}\n")
        git(author, "add", ".")
        git(author, "commit", "--quiet", "-m", str(number))
        git(author, "push", "--quiet", str(bare), "main")
    step = f"{{uses: actions/checkout@{PIN}, with: {{persist-credentials: %s}}}}"
    look = "cat file; git rev-parse HEAD; git symbolic-ref HEAD; git log --oneline | wc -l"
    push = "git push --quiet origin HEAD:refs/heads/new"
    text = f"""
  keeps:
    permissions: {{contents: write}}
    steps: [{step % "true"}, {{run: {look}}}, {{run: "{push}"}}]
  does_not:
    permissions: {{contents: write}}
    steps: [{step % "false"}, {{run: git config --get-regexp http}}]
  reads:
    permissions: {{contents: read}}
    steps: [{step % "true"}, {{run: "{push}"}}]
  neither:
    permissions: {{}}
    steps: [{step % "true"}]
  elsewhere:
    permissions: {{contents: read}}
    steps:
      - uses: actions/checkout@{PIN}
        with: {{ref: "{git(author, "rev-parse", "HEAD~2")}", path: sub, fetch-depth: 0}}
      - {{run: "cat file; git branch -r; git log --oneline | wc -l", working-directory: sub}}
"""
    runner = make(text, sha=git(author, "rev-parse", "HEAD~1"))
    with git_server.serving(bare.parent, runner.github.authorize) as server:
        trusting = {**runner.environ, "GIT_SSL_CAINFO": str(server.pem)}
        runner = replace(runner, origin=f"{server.url}/octo.git", environ=trusting)
        jobs = runner.run().jobs
    assert jobs["keeps"].result == "success", jobs["keeps"].log
    assert jobs["keeps"].steps[1].log.split() == ["1", runner.sha, "refs/heads/main", "1"]
    assert git(bare, "rev-parse", "new") == runner.sha
    assert "AUTHORIZATION: basic ***" in jobs["keeps"].log
    assert jobs["does_not"].steps[0].outcome == "success"
    assert jobs["does_not"].steps[1].outcome == "failure"
    assert [step.outcome for step in jobs["reads"].steps] == ["success", "failure"]
    assert "403" in jobs["reads"].log
    assert jobs["neither"].result == "failure"
    assert jobs["elsewhere"].steps[1].log.split() == ["0", "origin/main", "origin/new", "1"]
