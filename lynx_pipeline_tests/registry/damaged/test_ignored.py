"""Whoever reads the registry sees which entries are ignored, and why."""

import json
import warnings
from collections.abc import Callable

import pytest

from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.registry import IgnoredEntries, Registry
from lynx_pipeline_tests.registry.damaged.conftest import Case
from lynx_pipeline_tests.support.signing import RELEASE, signatures_table

NewCase = Callable[[str, Env], Case]
NOT_SIGNED = "it is not signed"
both_stores = pytest.mark.parametrize(
    "store", ["folder", pytest.param("git", marks=pytest.mark.slow)]
)


@both_stores
def test_list_and_show_mark_an_ignored_entry(new_case: NewCase, store: str) -> None:
    """With the reason that ``verify`` gives. Nothing else is marked."""
    case = new_case(store, Env.PROD)
    case.forge(4)
    case.promote(5)
    code, out, err = case.run("list")
    assert (code, err) == (0, "")
    assert [f"IGNORED: {NOT_SIGNED}" in line for line in out.splitlines()] == [
        *(False, False, False, True, False)
    ]
    listed = json.loads(case.run("list", "--json")[1])
    assert [it["ignored"] for it in listed] == [None, None, None, NOT_SIGNED, None]
    assert [it["semver"] for it in json.loads(case.run("list", "--env", "dev", "--json")[1])] == []
    (shown,) = json.loads(case.run("show", "v0.4.0")[1])
    assert shown == listed[3]
    (shown,) = json.loads(case.run("show", "v0.5.0")[1])
    assert shown["ignored"] is None
    assert f"line 4 is ignored: {NOT_SIGNED}" in case.run("verify")[2]


@both_stores
def test_resolve_and_fetch_warn_of_ignored_entries_after_the_latest(
    new_case: NewCase, store: str
) -> None:
    """In one line on standard error. The answer is the same, and so is the exit code."""
    case = new_case(store, Env.PROD)
    before = case.run("resolve", "--json")
    assert before[2] == ""
    for number in (4, 5, 6, 7):
        case.forge(number)
    for arguments in (["resolve", "--json"], ["resolve", "v0.1.0"]):
        code, out, err = case.run(*arguments)
        assert code == 0
        assert "IGNORED" not in out
        assert err.count("\n") == 1
        assert "WARNING: 4 entries after the latest valid one are ignored (line 4, promoted" in err
        assert f"v0.4.0: {NOT_SIGNED}; line 5" in err
        assert "and 1 more" in err
        assert "run 'lynx-pipeline registry verify'" in err
    assert case.run("resolve", "--json")[:2] == before[:2]
    code, _, err = case.run("fetch", "--to", str(case.root / "model"))
    assert code == 1  # the tests' promotions name no bundle
    assert "4 entries after the latest valid one are ignored" in err
    case.promote(8)
    assert case.run("resolve")[2] == ""


def test_the_warning_has_its_own_category(new_case: NewCase) -> None:
    """A service can turn it into an alarm."""
    case = new_case("folder", Env.PROD)
    case.forge(4)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert Registry.open(case.settings).resolve().semver == "v0.3.0"
    assert [it.category for it in shown] == [IgnoredEntries]


def test_what_can_not_be_checked_is_still_listed(new_case: NewCase) -> None:
    """The settings name an entry that is not there: which entries count is unknown."""
    case = new_case("folder", Env.PROD)
    file = case.root / "pyproject.toml"
    other = signatures_table(RELEASE, unsigned_until="0" * 64)
    file.write_text(file.read_text().replace(signatures_table(RELEASE), other))
    code, out, err = case.run("list", "--json")
    assert code == 0
    assert {it["ignored"] for it in json.loads(out)} == {"unknown, see the warning"}
    assert "WARNING: which entries are ignored is unknown: " in err
    assert case.run("verify")[0] == 2
