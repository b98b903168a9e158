"""How errors of the steps look in Dagster."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster import DagsterInvariantViolationError, Failure, OpExecutionContext

from lynx_pipeline.defs.metadata import report_metadata
from lynx_pipeline.errors import LynxError, from_os_error, paragraph
from lynx_pipeline.evaluation.judgement import GateRefused
from lynx_pipeline.reports.report import Report

EXIT_CODE = "exit_code"


@contextmanager
def failures() -> Iterator[None]:
    """Turn our errors into step failures that say what to do, with the verdict if there is one.

    Assets and checks use it as a ``with`` block, because Dagster's link to an asset's source does
    not see through a decorator. Dagster does not retry these failures: the same input gives the
    same result. The message says everything, so Dagster's log shows no stack trace.
    """
    try:
        yield
    except (LynxError, OSError) as error:
        known = error if isinstance(error, LynxError) else from_os_error(error)
        metadata: dict[str, Any] = {EXIT_CODE: known.exit_code}
        if isinstance(known, GateRefused):
            metadata.update(report_metadata(Report(known.verdict)))
        _hide_stack_trace()
        raise Failure(paragraph(known), metadata=metadata, allow_retries=False) from None


def _hide_stack_trace() -> None:
    """Keep the stack trace of the step's failure out of the log, the event and the run's failure.

    Dagster has no setting for this. It reports a failure through the step's logger, and a filter of
    a logger may change what passes. Where Dagster's events look different, nothing changes.
    """
    try:
        log = OpExecutionContext.get().log
    except DagsterInvariantViolationError:  # not in a step, as in a test of this module
        return
    log.addFilter(_remove_stack_trace)


def _remove_stack_trace(record: logging.LogRecord) -> bool:
    event = getattr(record, "dagster_event", None)
    stack = getattr(getattr(getattr(event, "event_specific_data", None), "error", None), "stack", 0)
    if isinstance(stack, list):
        stack.clear()
    return True
