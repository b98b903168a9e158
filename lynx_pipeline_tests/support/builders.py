"""Builders of small real inputs: eval sets, baselines, bundles, facts and projects.

A question reads ``Say word3``, and its correct answer is ``word3``. :data:`GOOD` answers it.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from lynx_pipeline.config import Settings, load_settings
from lynx_pipeline.domain.candidate_eval import CandidateEval, score
from lynx_pipeline.domain.eval_set import EvalSet, bucket_sizes, parse_eval_set
from lynx_pipeline.domain.ledger.chain import Ledger
from lynx_pipeline.domain.ledger.facts import (
    Actor,
    Evidence,
    Fact,
    Promoted,
    Registered,
    RolledBack,
)
from lynx_pipeline.domain.scorers import EXACT
from lynx_pipeline.domain.versioning import Env
from lynx_pipeline.evaluation.storage.memory import SmallEvalSet

JsonObject = dict[str, Any]

RUN = "0123456789abcdef" * 2
SHA = "5" * 64
MD5 = "d" * 32
TIME = "2025-01-02T03:04:05Z"

# The body of ``def answer(prompts: list[str])``.
GOOD = "return [prompt.removeprefix('Say ') for prompt in prompts]"

# The events, and the files that a promotion stores, by their names in the ledger.
REGISTERED, PROMOTED, ROLLED_BACK = (it.event for it in (Registered, Promoted, RolledBack))
EVIDENCE_FILES = ("baseline", "candidate_eval", "predictions")

_TOKENS = itertools.count()

_LOADER = """\
def answer(prompts):
{body}


class Model:
    def predict(self, data, params=None):
        return answer(list(data["prompt"]))


def _load_pyfunc(path):
{load}
    return Model()
"""


def eval_items(n: int = 12) -> list[JsonObject]:
    """``n`` items: the first half in ``half.a``, the rest in ``half.b``, all in ``all.x``."""
    return [
        {
            "id": f"i{k}",
            "prompt": f"Say word{k}",
            "expected": f"word{k}",
            "buckets": {"half": "a" if k < n // 2 else "b", "all": "x"},
        }
        for k in range(n)
    ]


def jsonl(items: Iterable[JsonObject]) -> bytes:
    """The items as the bytes of an eval set file."""
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def md5(raw: bytes) -> str:
    """The digest that DVC records."""
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


def sha256(raw: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(raw).hexdigest()


def eval_set(items: Iterable[JsonObject] | None = None) -> SmallEvalSet:
    """The parsed eval set of ``items`` (default: :func:`eval_items`)."""
    raw = jsonl(eval_items() if items is None else items)
    return SmallEvalSet(tuple(parse_eval_set(raw.split(b"\n"), "eval set")), md5(raw), sha256(raw))


def bucket(correct: int, n: int) -> JsonObject:
    """A bucket's JSON as the project writes it."""
    return {"accuracy": correct / n, "n": n, "correct": correct}


def baseline_json(buckets: Any = None, **changes: Any) -> JsonObject:
    """A baseline; ``changes`` replace top-level keys."""
    return {
        "eval_set_dvc_hash": MD5,
        "baseline_sha": SHA,
        "tolerance_pp": 0.02,
        "buckets": {"half.a": bucket(90, 100)} if buckets is None else buckets,
        **changes,
    }


def candidate_json(buckets: Any = None, **changes: Any) -> JsonObject:
    """The minimal candidate that ``compare-baseline`` accepts."""
    return {
        "eval_set_dvc_hash": MD5,
        "buckets": {"half.a": bucket(90, 100)} if buckets is None else buckets,
        **changes,
    }


def baseline_of(
    items: EvalSet, correct: Mapping[str, int] | None = None, **changes: Any
) -> JsonObject:
    """A baseline measured on ``items``: all answers are right, or ``correct`` of them by bucket."""
    right = correct or {}
    buckets = {name: bucket(right.get(name, n), n) for name, n in bucket_sizes(items).items()}
    hashes = {"eval_set_dvc_hash": items.dvc_hash, "eval_set_sha256": items.sha256}
    return baseline_json(buckets, **{**hashes, **changes})


def bundle(folder: Path, body: str = GOOD, load: str = "pass", **mlmodel: Any) -> Path:
    """An MLflow pyfunc model that MLflow itself can load. ``body`` answers the prompts, ``load``
    runs when it is loaded, ``mlmodel`` adds or replaces keys of ``MLmodel``."""
    (folder / "code").mkdir(parents=True)
    values = {
        "flavors": {"python_function": {"code": "code", "loader_module": "tiny_loader"}},
        "run_id": RUN,
        "utc_time_created": "2025-01-02 03:04:05.000000",
        **mlmodel,
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(values))
    source = _LOADER.format(body=_indented(body), load=_indented(load))
    (folder / "code" / "tiny_loader.py").write_text(source)
    return folder


def candidate_eval(
    items: EvalSet, predictions: bytes, answers: Mapping[str, str | None], **changes: Any
) -> CandidateEval:
    """A complete evaluation of ``answers``, whose Parquet bytes are ``predictions``."""
    values: JsonObject = {
        "mlflow_run_id": RUN,
        "canonical_sha": SHA,
        "bundle_digest": sha256(b"bundle"),
        "parent_sha": None,
        "eval_set_dvc_hash": items.dvc_hash,
        "eval_set_sha256": items.sha256,
        "scorer": EXACT.name,
        "predictions_sha256": sha256(predictions),
        "isolation": "none",
        "counts": score(items, answers.items()),
        "metrics": {"tokens_per_second": 100.0},
    }
    values |= changes
    return CandidateEval(**{"candidate": values["mlflow_run_id"], **values})


def actor(**changes: str) -> Actor:
    """A workflow run with an unused token; ``changes`` replace claims."""
    claims = {part.name: f"the {part.name}" for part in fields(Actor)}
    return Actor(**{**claims, "jti": f"t{next(_TOKENS):08}", **changes})


def evidence(**changes: Any) -> Evidence:
    """The record of a promotion's evidence; ``changes`` replace fields."""
    values: JsonObject = {
        "eval_set_dvc_hash": MD5,
        "eval_set_sha256": sha256(b"eval set"),
        **{f"{name}_sha256": sha256(name.encode()) for name in EVIDENCE_FILES},
        "scorer": EXACT.name,
        "isolation": "bubblewrap",
        "tolerance": 0.02,
        "worst_bucket": "all.x",
        "worst_margin": 0.02,
    }
    return Evidence(**{**values, **changes})


def fact(*, event: str = REGISTERED, **changes: Any) -> Fact:
    """A fact of this event in dev; ``changes`` replace fields. In prod it has an actor and, if it
    is a promotion, evidence."""
    kind = {it.event: it for it in (Registered, Promoted, RolledBack)}[event]
    values: JsonObject = {
        "time": TIME,
        "env": Env.DEV,
        "model": "tiny",
        "mlflow_run_id": RUN,
        "artifact_uri": f"runs:/{RUN}/model",
        "canonical_sha": SHA,
    }
    if changes.get("env") is Env.PROD:
        values |= {"actor": actor(), "evidence": evidence()}
    known = {part.name for part in fields(kind)}
    return kind(**{key: value for key, value in values.items() if key in known} | changes)


def promoted(semver: str, **changes: Any) -> Promoted:
    """A promotion, see :func:`fact`."""
    made = fact(event=PROMOTED, semver=semver, **changes)
    assert isinstance(made, Promoted)
    return made


def rolled_back(promotion: Promoted, **changes: Any) -> RolledBack:
    """The rollback to a promotion, by the same actor by default; ``changes`` replace fields."""
    known = {part.name for part in fields(RolledBack)}
    values = {name: getattr(promotion, name) for name in known}
    return RolledBack(**{**values, **changes})


def chain(*facts: Fact) -> Ledger:
    """The ledger of these facts."""
    ledger = Ledger()
    for each in facts:
        entry = ledger.next_entry(each)
        ledger = Ledger((*ledger.entries, entry), ledger.size + len(entry.to_line()))
    return ledger


def project(
    root: Path,
    items: Iterable[JsonObject] | None = None,
    baseline: Callable[[EvalSet], JsonObject] = baseline_of,
    *,
    environ: Mapping[str, str] | None = None,
    pyproject: str = "",
) -> Settings:
    """A project with an eval set, its ``.dvc`` file and a baseline. DVC itself is not set up, since
    nothing has to be pulled. ``pyproject`` is appended to our table."""
    raw = jsonl(eval_items() if items is None else items)
    parsed = EvalSet(tuple(parse_eval_set(raw.split(b"\n"), "eval set")), md5(raw), sha256(raw))
    (root / "data").mkdir(parents=True)
    (root / "pyproject.toml").write_text(
        '[tool.lynx_pipeline]\nmodel = "tiny"\neval_set = "data/eval.jsonl"\n'
        f'baseline = "eval_baseline.json"\n{pyproject}'
    )
    (root / "data/eval.jsonl").write_bytes(raw)
    (root / "data/eval.jsonl.dvc").write_text(
        f"outs:\n- md5: {parsed.dvc_hash}\n  size: {len(raw)}\n  hash: md5\n  path: eval.jsonl\n"
    )
    (root / "eval_baseline.json").write_text(json.dumps(baseline(parsed)))
    return load_settings(root, environ or {})


def _indented(code: str) -> str:
    return "\n".join(f"    {line}" for line in code.splitlines())
