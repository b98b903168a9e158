"""Committed gate inputs that git converts when it checks them out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lynx_pipeline.errors import Refused
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.audit import audit
from lynx_pipeline_tests.registry.prod.conftest import BASELINE, DVC, LAX, PYPROJECT, Prod

pytestmark = pytest.mark.slow

CLEAN = ""  # what git status --porcelain prints for a checkout without edits


def checked_out_again(prod: Prod, *files: str) -> None:
    """Commit, and let git write ``files`` again, as in a new clone."""
    prod.commit()
    for name in files:
        (prod.root / name).unlink()
    prod.git("checkout", "--quiet", "HEAD", "--", *files)
    assert prod.git("status", "--porcelain") == CLEAN
    prod.issue_tokens_for_head()


def multiline(prod: Prod) -> None:
    """Give the baseline several lines."""
    prod.edit(BASELINE, ", ", ",\n")


def by_attribute(prod: Prod) -> None:
    prod.write(".gitattributes", "* text=auto eol=crlf\n")


def by_configuration(prod: Prod) -> None:
    prod.git("config", "core.autocrlf", "true")


@pytest.mark.parametrize("convert", [by_attribute, by_configuration])
def test_line_endings_converted_by_git_do_not_matter(
    prod: Prod, convert: Callable[[Prod], None]
) -> None:
    """The entry can be audited in a checkout with either line ending."""
    multiline(prod)
    convert(prod)
    checked_out_again(prod, BASELINE, DVC, PYPROJECT)
    for name in (BASELINE, DVC, PYPROJECT):
        assert b"\r\n" in (prod.root / name).read_bytes()
    assert prod.promote(prod.candidate("good"), "v0.1.0").seq == 1
    for name in (BASELINE, DVC):
        (prod.root / name).write_text((prod.root / name).read_text())
    assert audit(Registry.open(prod.prod), "v0.1.0").findings == ()


@pytest.mark.parametrize("convert", [by_attribute, by_configuration])
def test_an_edit_of_a_converted_file_is_refused(
    prod: Prod, convert: Callable[[Prod], None]
) -> None:
    """Line endings are all that may differ."""
    multiline(prod)
    convert(prod)
    checked_out_again(prod, BASELINE)
    bad = prod.candidate("bad", wrong=5)
    (prod.root / BASELINE).write_bytes(LAX.replace(", ", ",\r\n").encode())
    with pytest.raises(Refused, match=f"^{BASELINE} differs from the commit .* not committed"):
        prod.promote(bad, "v0.1.0")
    assert prod.place.all() == {}


def _by_filter(prod: Prod) -> None:
    prod.write(".gitattributes", "*.json filter=spaced\n")
    prod.git("config", "filter.spaced.clean", "tr -d ' '")
    prod.git("config", "filter.spaced.smudge", "sed 's/,/, /g'")


def _by_keyword(prod: Prod) -> None:
    prod.write(".gitattributes", "*.json ident\n")
    prod.edit(BASELINE, '"baseline_sha"', '"justification": "$Id$", "baseline_sha"')


@pytest.mark.parametrize(
    ("convert", "attribute"), [(_by_filter, "filter=spaced"), (_by_keyword, "ident")]
)
def test_another_conversion_is_named_and_the_advice_works(
    prod: Prod, convert: Callable[[Prod], None], attribute: str
) -> None:
    """The tree is clean, so "edited" alone would be wrong."""
    convert(prod)
    checked_out_again(prod, BASELINE)
    good = prod.candidate("good")
    with pytest.raises(Refused, match=f"git attribute '{attribute}' changes it") as caught:
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}
    line, command = str(caught.value).split("'")[3:6:2]
    with (prod.root / ".gitattributes").open("a") as file:
        file.write(f"{line}\n")
    prod.git(*command.split()[1:])
    checked_out_again(prod, BASELINE)
    assert prod.promote(good, "v0.1.0").seq == 1


def test_a_filter_that_lowers_the_floors_is_refused(prod: Prod, tmp_path: Path) -> None:
    """Anyone can configure a filter, and the tree is clean with it."""
    strict = prod.root / BASELINE
    (tmp_path / "lax").write_text(LAX)
    (tmp_path / "strict").write_bytes(strict.read_bytes())
    (prod.root / ".git/info").mkdir(exist_ok=True)
    prod.write(".git/info/attributes", f"{BASELINE} filter=lax\n")
    prod.git("config", "filter.lax.clean", f"cat {tmp_path / 'strict'}")
    prod.git("config", "filter.lax.smudge", f"cat {tmp_path / 'lax'}")
    strict.unlink()
    prod.git("checkout", "--quiet", "HEAD", "--", BASELINE)
    assert (strict.read_text(), prod.git("status", "--porcelain")) == (LAX, CLEAN)
    bad = prod.candidate("bad", wrong=5)
    with pytest.raises(Refused, match="git attribute 'filter=lax'"):
        prod.promote(bad, "v0.1.0")
    assert prod.place.all() == {}
