"""How errors of the steps look in Dagster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster import Failure

from lynx_pipeline.defs.metadata import report_metadata
from lynx_pipeline.errors import LynxError, from_os_error, paragraph
from lynx_pipeline.evaluation.judgement import GateRefused
from lynx_pipeline.reports.report import Report


@contextmanager
def failures() -> Iterator[None]:
    """Turn our errors into step failures that say what to do, with the verdict if there is one.

    Checks use it as a decorator. Assets use a ``with`` block, because Dagster's link to an asset's
    source does not see through a decorator. Dagster does not retry these failures: the same input
    gives the same result.
    """
    try:
        yield
    except (LynxError, OSError) as error:
        known = error if isinstance(error, LynxError) else from_os_error(error)
        metadata: dict[str, Any] = {"exit_code": known.exit_code}
        if isinstance(known, GateRefused):
            metadata.update(report_metadata(Report(known.verdict)))
        raise Failure(paragraph(known), metadata=metadata, allow_retries=False) from None
