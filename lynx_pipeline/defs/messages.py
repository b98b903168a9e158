"""The console output of ``lynx-pipeline run``: what the steps report, without Dagster's events."""

import logging
import os
import sys

from dagster import InitLoggerContext, LoggerDefinition, colored_console_logger

MESSAGES = "messages"


class _Messages(logging.Handler):
    """Prints what a step reports, without the text that Dagster adds to it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        # A step's standard error goes to Dagster's log of that step; this stays the terminal.
        self.stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        meta = getattr(record, "dagster_meta", {})
        # Our steps report failures by raising; messages of a higher level are Dagster's own.
        mine = meta.get("step_key") and meta["dagster_event"] is None
        if mine and record.levelno <= logging.WARNING:
            label = "WARNING: " if record.levelno == logging.WARNING else ""
            self.stream.write(f"{label}{meta['orig_message']}\n")
            self.stream.flush()


def _messages(_: InitLoggerContext) -> logging.Logger:
    log = logging.Logger(MESSAGES, logging.INFO)
    log.addHandler(_Messages())
    return log


LOGGERS = {
    "console": colored_console_logger,
    MESSAGES: LoggerDefinition(
        _messages, description="What the steps report, one line each, without Dagster's events."
    ),
}
