"""A candidate is judged by rules that are committed and still in force."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed
from lynx_pipeline.registry import promotion
from lynx_pipeline.registry.promotion import SupportedPromotion
from lynx_pipeline_tests.registry.prod.conftest import (
    BASELINE,
    DVC,
    LAX,
    PYPROJECT,
    Prod,
    raise_floors,
)
from lynx_pipeline_tests.registry.prod.judging import after_judging
from lynx_pipeline_tests.support.builders import baseline_of, eval_items, eval_set, jsonl, md5
from lynx_pipeline_tests.support.fake_issuer import MAIN

pytestmark = pytest.mark.slow


# ----- the rules are committed ----------------------------------------------------------------


def _lower_floors(prod: Prod) -> None:
    prod.write(BASELINE, LAX)


def _lower_and_stage(prod: Prod) -> None:
    _lower_floors(prod)
    prod.git("add", "--all")


def _lower_assumed_unchanged(prod: Prod) -> None:
    prod.git("update-index", "--assume-unchanged", BASELINE)
    _lower_floors(prod)


def _lower_and_commit(prod: Prod) -> None:
    _lower_and_stage(prod)
    prod.git("commit", "--quiet", "--message", "x")


def _lower_with_a_symlink(prod: Prod) -> None:
    _lower_floors(prod)
    (prod.root / BASELINE).rename(prod.root / "lax.json")
    (prod.root / BASELINE).symlink_to("lax.json")


def _lower_and_replace(prod: Prod) -> None:
    """Git itself then shows the lower floors in place of the committed ones."""
    old = prod.git("rev-parse", f"HEAD:{BASELINE}")
    _lower_floors(prod)
    prod.git("replace", old, prod.git("hash-object", "-w", BASELINE))
    assert prod.git("show", f"HEAD:{BASELINE}") == LAX
    assert prod.git("status", "--porcelain") == f"M {BASELINE}"


def _lower_and_replace_the_commit(prod: Prod) -> None:
    head = prod.git("rev-parse", "HEAD")
    _lower_and_commit(prod)
    lower = prod.git("rev-parse", "HEAD")
    prod.git("reset", "--quiet", "--soft", head)
    prod.git("replace", head, lower)
    assert prod.git("show", f"HEAD:{BASELINE}") == LAX


def _stop_tracking(name: str) -> Callable[[Prod], None]:
    def change(prod: Prod) -> None:
        with (prod.root / ".gitignore").open("a") as file:
            file.write(f"{name}\n")
        prod.git("rm", "--quiet", "--cached", name)
        prod.commit()
        prod.issue_tokens_for_head()

    return change


def _edit_policy(prod: Prod) -> None:
    """Use a token that only the edited policy would accept."""
    prod.edit(PYPROJECT, '"production"', '"mine"')
    prod.issuer.changes["environment"] = "mine"


def _add_event(prod: Prod) -> None:
    prod.edit(PYPROJECT, '"workflow_dispatch"', '"push", "workflow_dispatch"')
    prod.issuer.changes["event_name"] = "push"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param(
            _lower_floors, Refused, f"^{BASELINE} differs from the commit", id="lower floors"
        ),
        pytest.param(
            _lower_and_stage,
            Refused,
            f"^{BASELINE} differs from the commit",
            id="lower floors staged",
        ),
        pytest.param(
            _lower_assumed_unchanged, Refused, f"^{BASELINE} differs", id="assumed unchanged"
        ),
        pytest.param(
            _lower_with_a_symlink, Refused, f"^{BASELINE} differs from the commit", id="symlink"
        ),
        pytest.param(
            _lower_and_replace, Refused, f"^{BASELINE} differs from the commit", id="git replace"
        ),
        pytest.param(
            _lower_and_replace_the_commit, Refused, f"^{BASELINE} differs", id="replaced commit"
        ),
        pytest.param(_lower_and_commit, Refused, "claim 'sha'", id="lower floors committed"),
        pytest.param(
            _stop_tracking(BASELINE), Refused, f"^{BASELINE} differs", id="floors not tracked"
        ),
        pytest.param(
            _stop_tracking(DVC),
            Refused,
            f"^{DVC} differs from the commit",
            id=".dvc file not tracked",
        ),
        pytest.param(
            lambda p: p.edit(DVC, "hash: md5", "hash:  md5"),
            Refused,
            f"^{DVC} differs",
            id=".dvc file edited",
        ),
        pytest.param(
            lambda p: p.edit(PYPROJECT, "tiny", "small"),
            Refused,
            f"^{PYPROJECT} differs",
            id="model",
        ),
        pytest.param(
            _edit_policy, Refused, f"^{PYPROJECT} differs from the commit", id="edited policy"
        ),
        pytest.param(
            _add_event, Refused, f"^{PYPROJECT} differs from the commit", id="additional event"
        ),
        pytest.param(
            lambda p: p.write("data/eval.jsonl", "{}\n"), BadInput, "was changed", id="eval set"
        ),
        pytest.param(
            lambda p: shutil.rmtree(p.root / ".git"), BadInput, "is not a git checkout", id="no git"
        ),
        pytest.param(
            lambda p: p.git("checkout", "--quiet", "--orphan", "x"),
            BadInput,
            "the git repository has no commit yet",
            id="no commit",
        ),
        pytest.param(
            lambda p: p.git("remote", "remove", "origin"), SystemFailed, "origin", id="no remote"
        ),
        pytest.param(
            lambda p: shutil.rmtree(p.origin.bare), SystemFailed, "origin", id="remote deleted"
        ),
        pytest.param(
            lambda p: p.origin.git("update-ref", "-d", MAIN),
            SystemFailed,
            "has no such ref",
            id="branch deleted",
        ),
    ],
)
def test_uncommitted_rules_are_refused(
    prod: Prod, change: Callable[[Prod], object], error: type[LynxError], message: str
) -> None:
    """Even a good candidate is refused, since nobody could tell which rules it was judged by."""
    good = prod.candidate("good")
    change(prod)
    with pytest.raises(error, match=message):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


def test_git_variables_for_a_different_repository_are_ignored(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables can't justify lowered floors, and do not block a valid promotion."""
    bad, good = prod.candidate("bad", wrong=5), prod.candidate("good")
    colleague = prod.colleague
    _lower_floors(colleague)
    colleague.git("add", "--all")
    colleague.git("commit", "--quiet", "--message", "lower")
    right = (prod.root / BASELINE).read_text()
    variables = {
        "GIT_DIR": colleague.root / ".git",
        "GIT_WORK_TREE": colleague.root,
        "GIT_INDEX_FILE": colleague.root / ".git/index",
        "GIT_OBJECT_DIRECTORY": colleague.root / ".git/objects",
        "GIT_COMMON_DIR": colleague.root / ".git",
    }
    _lower_floors(prod)
    head = colleague.git("rev-parse", "HEAD")
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(Refused, match=f"^{BASELINE} differs from the commit"):
        prod.promote(bad, "v0.1.0")
    prod.issuer.changes["sha"], ours = head, prod.issuer.changes["sha"]
    with pytest.raises(Refused, match="claim 'sha'"):
        prod.promote(bad, "v0.1.0")
    assert prod.place.all() == {}
    prod.issuer.changes["sha"] = ours
    prod.write(BASELINE, right)
    assert prod.promote(good, "v0.1.0").seq == 1


def test_floors_changed_after_judging_are_a_refusal(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is replaced after the verdict and before the entry is written."""
    good = prod.candidate("good")
    after_judging(monkeypatch, partial(_lower_floors, prod))
    with pytest.raises(Refused, match="was changed while the candidate was judged by it"):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


def _install_easy_eval_set(prod: Prod) -> None:
    """Replace the committed eval set with one that accepts any answer."""
    items = [{**item, "accept": ["wrong"]} for item in eval_items()]
    raw = jsonl(items)
    prod.settings.eval_set.write_bytes(raw)
    prod.edit(DVC, eval_set().dvc_hash, md5(raw))
    prod.write(BASELINE, json.dumps(baseline_of(eval_set(items))))


@pytest.mark.parametrize("restored", [False, True], ids=["not restored", "restored"])
def test_an_eval_set_swapped_in_for_judging_is_refused(
    prod: Prod, monkeypatch: pytest.MonkeyPatch, restored: bool
) -> None:
    """The .dvc file and the floors are replaced to match, and everything may be restored
    afterwards."""
    files = [prod.root / name for name in (BASELINE, DVC, "data/eval.jsonl")]
    right = [file.read_bytes() for file in files]

    def restore() -> None:
        for file, raw in zip(files, right, strict=True):
            file.write_bytes(raw)

    _install_easy_eval_set(prod)
    bad = prod.candidate("bad", wrong=12)
    restore()
    build = promotion.build_promotion

    def build_promotion(*arguments: Any) -> SupportedPromotion:
        _install_easy_eval_set(prod)
        supported = build(*arguments)
        if restored:
            restore()
        return supported

    monkeypatch.setattr(promotion, "build_promotion", build_promotion)
    with pytest.raises(Refused, match=r"commit|was changed while"):
        prod.promote(bad, "v0.1.0")
    assert prod.place.all() == {}


# ----- the rules are still in force -----------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "names"),
    [
        pytest.param(raise_floors, BASELINE, id="floors"),
        pytest.param(lambda p: p.write(DVC, "outs: []\n"), DVC, id="eval set"),
        pytest.param(lambda p: (p.root / DVC).unlink(), DVC, id="eval set removed"),
        pytest.param(
            lambda p: p.edit(PYPROJECT, '"production"', '"stricter"'),
            "[tool.lynx_pipeline] in pyproject.toml",
            id="policy",
        ),
        pytest.param(
            lambda p: p.edit(PYPROJECT, BASELINE, "other.json"),
            "[tool.lynx_pipeline] in pyproject.toml",
            id="path of the floors",
        ),
        pytest.param(
            lambda p: p.write(PYPROJECT, "[tool"),
            "[tool.lynx_pipeline] in pyproject.toml",
            id="broken settings",
        ),
        pytest.param(
            lambda p: (p.root / PYPROJECT).unlink(),
            "[tool.lynx_pipeline] in pyproject.toml",
            id="no settings",
        ),
    ],
)
def test_a_branch_with_different_rules_is_a_refusal(
    prod: Prod, change: Callable[[Prod], object], names: str
) -> None:
    """A workflow run that is re-run weeks later must not use outdated rules."""
    good = prod.candidate("good")
    colleague = prod.colleague
    change(colleague)
    new = colleague.commit()
    for write in (partial(prod.promote, good, "v0.1.0"), partial(prod.rollback, "v0.1.0")):
        with pytest.raises(Refused) as caught:
            write()
        assert f"to {new[:12]}, which changes {names}: " in str(caught.value)
        assert "Start a new workflow run" in str(caught.value)
    assert prod.place.all() == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("README.md", "new\n", id="unrelated file"),
        pytest.param("data/more.jsonl.dvc", "outs: []\n", id="unrelated data"),
        pytest.param(PYPROJECT, "\n[tool.other]\nx = 1\n", id="unrelated settings"),
    ],
)
def test_unrelated_commits_on_the_branch_do_not_matter(prod: Prod, name: str, text: str) -> None:
    """The rules are still the same."""
    good = prod.candidate("good")
    colleague = prod.colleague
    with (colleague.root / name).open("a") as file:
        file.write(text)
    colleague.commit()
    assert prod.promote(good, "v0.1.0").seq == 1


def test_a_rewritten_branch_with_the_same_rules_does_not_matter(prod: Prod) -> None:
    """Only the rules are compared, not the history."""
    good = prod.candidate("good")
    prod.colleague.git("commit", "--quiet", "--amend", "--message", "y")
    prod.colleague.git("push", "--quiet", "--force", "origin", "HEAD:main")
    assert prod.promote(good, "v0.1.0").seq == 1
