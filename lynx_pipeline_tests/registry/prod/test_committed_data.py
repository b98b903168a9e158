"""However DVC tracks the eval set, prod uses what is committed and still in force."""

import json
from collections.abc import Callable

import pytest

from lynx_pipeline.domain.ledger.facts import Evidence
from lynx_pipeline.errors import Refused
from lynx_pipeline.registry.gate_inputs import changes
from lynx_pipeline_tests.registry.prod.conftest import DVC, PYPROJECT, Prod
from lynx_pipeline_tests.support.builders import eval_set, md5

pytestmark = pytest.mark.slow

LOCK = "dvc.lock"
OTHER = "e" * 32


def by_stage(prod: Prod) -> str:
    """Track the eval set as an output of a stage. Returns the file that records it."""
    _repository(prod)
    prod.write("dvc.yaml", "stages:\n  make: {cmd: x}\n  other: {cmd: y}\n")
    prod.write(
        LOCK,
        "schema: '2.0'\nstages:\n  make:\n    cmd: x\n    outs:\n    - path: data/eval.jsonl\n"
        f"      hash: md5\n      md5: {eval_set().dvc_hash}\n  other:\n    cmd: y\n    outs:\n"
        f"    - path: elsewhere\n      hash: md5\n      md5: {'a' * 32}\n",
    )
    _commit(prod)
    return LOCK


def by_folder(prod: Prod) -> str:
    """Track the folder of the eval set. Returns the file that records it."""
    _repository(prod)
    entries = json.dumps([{"md5": eval_set().dvc_hash, "relpath": "eval.jsonl"}]).encode()
    name = md5(entries)
    cached = prod.root / ".dvc/cache/files/md5" / name[:2] / f"{name[2:]}.dir"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(entries)
    prod.write("data.dvc", f"outs:\n- md5: {name}.dir\n  hash: md5\n  path: data\n")
    _commit(prod)
    return "data.dvc"


def _repository(prod: Prod) -> None:
    (prod.root / ".dvc").mkdir()
    prod.write(".dvc/config", "")
    prod.write(".dvc/.gitignore", "/cache\n")
    (prod.root / DVC).unlink()


def _commit(prod: Prod) -> None:
    prod.commit()
    prod.issue_tokens_for_head()


both = pytest.mark.parametrize("track", [by_stage, by_folder])


@both
def test_a_candidate_is_promoted(prod: Prod, track: Callable[[Prod], str]) -> None:
    """The entry has the hash of the eval set itself."""
    track(prod)
    evidence = prod.promote(prod.candidate("good"), "v0.1.0").fact.evidence
    assert isinstance(evidence, Evidence)
    assert evidence.eval_set_dvc_hash == eval_set().dvc_hash


@both
def test_an_uncommitted_edit_of_the_record_is_refused(
    prod: Prod, track: Callable[[Prod], str]
) -> None:
    """Even one that changes nothing about the eval set."""
    name = track(prod)
    good = prod.candidate("good")
    prod.edit(name, "hash: md5", "hash:  md5")
    with pytest.raises(Refused, match=f"^{name} differs from the commit"):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


@both
def test_another_record_on_the_branch_is_refused(prod: Prod, track: Callable[[Prod], str]) -> None:
    """A workflow run that is re-run weeks later would use the old eval set."""
    name = track(prod)
    good = prod.candidate("good")
    colleague = prod.colleague
    text = (colleague.root / name).read_text()
    old = next(word for word in text.split() if len(word.removesuffix(".dir")) == 32)
    colleague.write(name, text.replace(old, OTHER + old[32:], 1))
    new = colleague.commit()
    with pytest.raises(Refused, match=f"to {new[:12]}, which changes {name}: "):
        prod.promote(good, "v0.1.0")
    assert prod.place.all() == {}


def test_a_second_record_that_only_the_disk_has_is_refused(prod: Prod) -> None:
    """The nearest record is used, and it has to be a committed one."""
    by_stage(prod)
    good = prod.candidate("good")
    prod.write(DVC, f"outs:\n- md5: {eval_set().dvc_hash}\n  hash: md5\n  path: eval.jsonl\n")
    with pytest.raises(Refused, match=f"^{DVC} differs from the commit"):
        prod.promote(good, "v0.1.0")


def test_a_working_folder_that_only_the_disk_has_is_refused(prod: Prod) -> None:
    """dvc.yaml decides which file an output of dvc.lock is."""
    by_stage(prod)
    good = prod.candidate("good")
    prod.edit(LOCK, "data/eval.jsonl", "elsewhere/eval.jsonl")
    prod.edit(LOCK, "path: elsewhere\n", "path: ../data/eval.jsonl\n")
    prod.edit(LOCK, "a" * 32, eval_set().dvc_hash)
    _commit(prod)
    prod.write("dvc.yaml", "stages:\n  other:\n    wdir: data\n")
    with pytest.raises(Refused, match=r"^DVC's record of eval.jsonl differs from the commit"):
        prod.promote(good, "v0.1.0")


def test_other_stages_on_the_branch_do_not_matter(prod: Prod) -> None:
    """dvc.lock changes whenever any stage is run again."""
    by_stage(prod)
    good = prod.candidate("good")
    colleague = prod.colleague
    colleague.edit(LOCK, "a" * 32, "b" * 32)
    colleague.commit()
    assert prod.promote(good, "v0.1.0").seq == 1


def test_dvcs_configuration_is_a_gate_input_if_it_names_the_bundle_store(prod: Prod) -> None:
    """Otherwise it only says where data comes from, whose hashes are committed."""
    _repository(prod)
    prod.git("checkout", "--quiet", "HEAD", "--", DVC)
    before = prod.commit()
    prod.write(".dvc/config", "[core]\n    analytics = false\n")
    after = prod.commit()
    assert changes(prod.prod, before, after) == []
    text = (prod.root / PYPROJECT).read_text()
    prod.write(
        PYPROJECT,
        text.replace('model = "tiny"', 'model = "tiny"\nbundle_store = "remote://team/bundles"'),
    )
    assert changes(prod.prod, before, after) == [".dvc/config"]
