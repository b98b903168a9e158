"""Hooks into the judging of a promotion. Run as a module, this is one of two racing promoters."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lynx_pipeline.errors import LynxError
from lynx_pipeline.evaluation import judgement
from lynx_pipeline.registry import Registry, promotion
from lynx_pipeline.registry.promotion import SupportedPromotion


def before_judging(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Call ``act`` when the identity is verified and nothing is judged yet."""
    real = judgement.judge_evidence

    def judge(*args: Any) -> Any:
        act()
        return real(*args)

    monkeypatch.setattr(promotion, "judge_evidence", judge)


def after_judging(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Call ``act`` once, when a promotion is judged and not yet in the ledger."""
    build, pending = promotion.build_promotion, [act]

    def build_promotion(*arguments: Any) -> SupportedPromotion:
        supported = build(*arguments)
        if pending:
            pending.pop()()
        return supported

    monkeypatch.setattr(promotion, "build_promotion", build_promotion)


def race(sha: str, semver: str, evidence: Path, start: Path) -> str:
    """Promote, but wait before writing the entry until the other promoter has judged too."""

    def wait() -> None:
        (start / semver).touch()
        deadline = time.monotonic() + 60
        while len(list(start.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)

    with pytest.MonkeyPatch.context() as patch:
        after_judging(patch, wait)
        try:
            entry = Registry.open().promote(sha, semver, evidence=evidence).entry
            return f"promoted: {entry.fact.semver}"
        except LynxError as error:
            return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    print(race(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
