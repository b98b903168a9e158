"""What a candidate is judged by is what is committed, and still in force."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from lynx_pipeline.errors import BadInput, LynxError, Refused, SystemFailed
from lynx_pipeline.registry import promotion, registry
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


# ----- what is judged by is what is committed -------------------------------------------------


def _lower(prod: Prod) -> None:
    prod.write(BASELINE, LAX)


def _lower_and_stage(prod: Prod) -> None:
    _lower(prod)
    prod.git("add", "--all")


def _lower_behind_gits_back(prod: Prod) -> None:
    prod.git("update-index", "--assume-unchanged", BASELINE)
    _lower(prod)


def _lower_and_commit(prod: Prod) -> None:
    _lower_and_stage(prod)
    prod.git("commit", "--quiet", "--message", "x")


def _lower_by_a_link(prod: Prod) -> None:
    _lower(prod)
    (prod.root / BASELINE).rename(prod.root / "lax.json")
    (prod.root / BASELINE).symlink_to("lax.json")


def _lower_and_replace(prod: Prod) -> None:
    """Git itself then shows the lower floors for the committed ones."""
    old = prod.git("rev-parse", f"HEAD:{BASELINE}")
    _lower(prod)
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
        prod.run_here()

    return change


def _own_policy(prod: Prod) -> None:
    """A token that only the edited policy would let in."""
    prod.edit(PYPROJECT, '"production"', '"mine"')
    prod.issuer.changes["environment"] = "mine"


def _own_issuer(prod: Prod) -> None:
    prod.edit(PYPROJECT, '"workflow_dispatch"', '"push", "workflow_dispatch"')
    prod.issuer.changes["event_name"] = "push"


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        pytest.param(_lower, Refused, f"^{BASELINE} differs from the commit", id="lower floors"),
        pytest.param(
            _lower_and_stage, Refused, f"^{BASELINE} differs from the commit", id="staged"
        ),
        pytest.param(_lower_behind_gits_back, Refused, f"^{BASELINE} differs", id="unseen by git"),
        pytest.param(
            _lower_by_a_link, Refused, f"^{BASELINE} differs from the commit", id="by a link"
        ),
        pytest.param(
            _lower_and_replace, Refused, f"^{BASELINE} differs from the commit", id="git replace"
        ),
        pytest.param(
            _lower_and_replace_the_commit, Refused, f"^{BASELINE} differs", id="replaced commit"
        ),
        pytest.param(_lower_and_commit, Refused, "claim 'sha'", id="committed on top"),
        pytest.param(_stop_tracking(BASELINE), Refused, f"^{BASELINE} differs", id="not tracked"),
        pytest.param(
            _stop_tracking(DVC), Refused, f"^{DVC} differs from the commit", id="data not tracked"
        ),
        pytest.param(
            lambda p: p.edit(DVC, "hash: md5", "hash:  md5"), Refused, f"^{DVC} differs", id="data"
        ),
        pytest.param(
            lambda p: p.edit(PYPROJECT, "tiny", "small"),
            Refused,
            f"^{PYPROJECT} differs",
            id="model",
        ),
        pytest.param(
            _own_policy, Refused, f"^{PYPROJECT} differs from the commit", id="own policy"
        ),
        pytest.param(
            _own_issuer, Refused, f"^{PYPROJECT} differs from the commit", id="one more event"
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
            "not a git checkout with a commit",
            id="no commit",
        ),
        pytest.param(
            lambda p: p.git("remote", "remove", "origin"), SystemFailed, "origin", id="no remote"
        ),
        pytest.param(
            lambda p: shutil.rmtree(p.origin.bare), SystemFailed, "origin", id="remote gone"
        ),
        pytest.param(
            lambda p: p.origin.git("update-ref", "-d", MAIN),
            SystemFailed,
            "has no such ref",
            id="branch gone",
        ),
    ],
)
def test_only_what_is_committed_counts(
    prod: Prod, change: Callable[[Prod], object], error: type[LynxError], says: str
) -> None:
    """A good candidate stays out too: nobody can say by what it would be judged."""
    good = prod.candidate("good")
    change(prod)
    with pytest.raises(error, match=says):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


def test_another_repository_in_the_environment_does_not_count(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for lower floors on the disk, nor against the right ones."""
    bad, good = prod.candidate("bad", wrong=5), prod.candidate("good")
    other = prod.colleague
    _lower(other)
    other.git("add", "--all")
    other.git("commit", "--quiet", "--message", "lower")
    right = (prod.root / BASELINE).read_text()
    variables = {
        "GIT_DIR": other.root / ".git",
        "GIT_WORK_TREE": other.root,
        "GIT_INDEX_FILE": other.root / ".git/index",
        "GIT_OBJECT_DIRECTORY": other.root / ".git/objects",
        "GIT_COMMON_DIR": other.root / ".git",
    }
    _lower(prod)
    head = other.git("rev-parse", "HEAD")
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


def test_floors_that_change_after_judging_count_for_nothing(
    prod: Prod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exchanged between the verdict and the entry."""
    good = prod.candidate("good")
    after_judging(monkeypatch, partial(_lower, prod))
    with pytest.raises(Refused, match="was changed while the candidate was judged by it"):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


def _easy(prod: Prod) -> None:
    """An eval set that takes any answer, in the place of the committed one."""
    items = [{**item, "accept": ["wrong"]} for item in eval_items()]
    raw = jsonl(items)
    prod.settings.eval_set.write_bytes(raw)
    prod.edit(DVC, eval_set().dvc_hash, md5(raw))
    prod.write(BASELINE, json.dumps(baseline_of(eval_set(items))))


@pytest.mark.parametrize("put_back", [False, True], ids=["for good", "put back"])
def test_an_eval_set_that_is_there_only_while_judging_counts_for_nothing(
    prod: Prod, monkeypatch: pytest.MonkeyPatch, put_back: bool
) -> None:
    """Exchanged with its .dvc file and floors that fit, and perhaps put back afterwards."""
    files = [prod.root / name for name in (BASELINE, DVC, "data/eval.jsonl")]
    right = [file.read_bytes() for file in files]

    def restore() -> None:
        for file, raw in zip(files, right, strict=True):
            file.write_bytes(raw)

    _easy(prod)
    bad = prod.candidate("bad", wrong=12)
    restore()
    build = promotion.build_promotion

    def build_promotion(*arguments: Any) -> SupportedPromotion:
        _easy(prod)
        supported = build(*arguments)
        if put_back:
            restore()
        return supported

    monkeypatch.setattr(registry, "build_promotion", build_promotion)
    with pytest.raises(Refused, match=r"commit|was changed while"):
        prod.promote(bad, "v0.1.0")
    assert prod.place.all() == {}


# ----- what is judged by is still in force ----------------------------------------------------


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
            id="place of the floors",
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
def test_a_branch_that_has_moved_to_other_rules_refuses(
    prod: Prod, change: Callable[[Prod], object], names: str
) -> None:
    """A run that is started anew weeks later does not go by floors that count no more."""
    good = prod.candidate("good")
    other = prod.colleague
    change(other)
    new = other.commit()
    for write in (partial(prod.promote, good, "v0.1.0"), partial(prod.rollback, "v0.1.0")):
        with pytest.raises(Refused) as caught:
            write()
        assert f"to {new[:12]}, which changes {names}: " in str(caught.value)
        assert "Start a new workflow run" in str(caught.value)
    assert prod.place.all() == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("README.md", "new\n", id="another file"),
        pytest.param("data/more.jsonl.dvc", "outs: []\n", id="other data"),
        pytest.param(PYPROJECT, "\n[tool.other]\nx = 1\n", id="another tool's table"),
    ],
)
def test_a_branch_that_has_moved_otherwise_does_not_matter(
    prod: Prod, name: str, text: str
) -> None:
    """The rules are the same there."""
    good = prod.candidate("good")
    other = prod.colleague
    with (other.root / name).open("a") as file:
        file.write(text)
    other.commit()
    assert prod.promote(good, "v0.1.0").seq == 1


def test_a_rewritten_branch_with_the_same_rules_does_not_matter(prod: Prod) -> None:
    """Its history is not what is judged by."""
    good = prod.candidate("good")
    prod.colleague.git("commit", "--quiet", "--amend", "--message", "y")
    prod.colleague.git("push", "--quiet", "--force", "origin", "HEAD:main")
    assert prod.promote(good, "v0.1.0").seq == 1


@pytest.mark.parametrize(
    "name", [".github/CODEOWNERS", "lynx_pipeline/registry/registry.py", "dev", "requirements.lock"]
)
def test_code_and_owners_changed_on_the_branch_refuse(prod: Prod, name: str) -> None:
    """A run of weeks ago, started again, has the gate and the owners of then."""
    good = prod.candidate("good")
    old = prod.git("rev-parse", "HEAD")
    file = prod.root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("as it is now\n")
    prod.commit()
    prod.git("checkout", "--quiet", old)
    prod.run_here()
    with pytest.raises(Refused, match=rf"has moved from .* changes {name}: "):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}
