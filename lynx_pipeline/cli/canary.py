"""``canary``: compare a running server's answers with the evaluated ones."""

import os
import re
import sys
from dataclasses import asdict

import click

from lynx_pipeline.adapters.model_server import ModelServer
from lynx_pipeline.cli.framework import Command, with_json
from lynx_pipeline.cli.output import print_json
from lynx_pipeline.domain.text import printable
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.canary import CanaryResult
from lynx_pipeline.registry.canary import canary as run_canary

TOKEN = "LYNX_CANARY_TOKEN"  # noqa: S105  # the variable's name
_SHOWN = 5


class SampleSize(click.ParamType[int | None]):
    """A number of prompts, or ``all``."""

    name = "number or all"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """The number; None for ``all``."""
        text = str(value)
        if text == "all":
            return None
        if not re.fullmatch("[1-9][0-9]{0,8}", text):
            self.fail(f"expected a number above 0 or 'all', found {text!r}.", param, ctx)
        return int(text)


@click.command(
    cls=Command,
    data=True,
    example="lynx-pipeline canary v0.1.0-dev --url http://127.0.0.1:8080/predict",
)
@click.argument("version")
@click.option(
    "--url",
    required=True,
    help="Where to send prompts: a URL that ends in /predict (miniserve) or /invocations (MLflow).",
)
@click.option(
    "--sample",
    type=SampleSize(),
    metavar="N|all",
    default="200",
    show_default=True,
    help="How many of the eval set's prompts to send.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 1000),
    metavar="N",
    default=1,
    show_default=True,
    help="Prompts in one request. Large batches are faster, but easy to recognize.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600, min_open=True),
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="How long one request may take.",
)
@click.option(
    "--column",
    help="For /invocations: send a data frame with this column, for models without a signature.",
)
@with_json
def canary(
    version: str,
    url: str,
    sample: int | None,
    batch: int,
    timeout: float,
    column: str | None,
    as_json: bool,
) -> int:
    """Check that a server answers as VERSION did in its evaluation.

    Sends a random sample of the eval set's prompts, among them every one that only VERSION or only
    the reference model (without one: the version before) answers right. The environment variable
    LYNX_CANARY_TOKEN is sent as a bearer token. Exits with 1 if any answer differs or another
    version is served, and with 3 if a request to the server fails.
    """
    server = ModelServer(url, column=column, seconds=timeout, token=os.environ.get(TOKEN))
    result = run_canary(Registry.open(), version, server.ask, size=sample, batch_size=batch)
    if as_json:
        print_json(_to_json(result))
    else:
        _print(result)
    if not result.differences:
        return 0
    print(
        f"lynx-pipeline: {server.name} does not answer as {result.version} did in its evaluation: "
        f"{len(result.differences)} of {result.asked} answers differ. Stop serving it, and find "
        "out what the model does.",
        file=sys.stderr,
    )
    return 1


def _to_json(result: CanaryResult) -> dict[str, object]:
    found = [{**it.question._asdict(), "answer": it.answer} for it in result.differences]
    return {**asdict(result), "differences": found}


def _print(result: CanaryResult) -> None:
    sent = f"Sent {result.asked} prompts, drawn at random"
    if result.other:
        sent = (
            f"Sent {result.asked} prompts, including {result.flipped} that only {result.version} "
            f"or only {result.other} answers right"
        )
    print(
        f"{sent}. {result.asked - len(result.differences)} of {result.asked} answers are the same "
        "as in the evaluation."
    )
    for question, answer in result.differences[:_SHOWN]:
        print(
            f"  {printable(question.id)}  {printable(question.prompt)!r}: expected "
            f"{_shown(question.expected)}, answered {_shown(answer)}"
        )
    if len(result.differences) > _SHOWN:
        print(f"  and {len(result.differences) - _SHOWN} more; --json lists all")


def _shown(answer: str | None) -> str:
    return "null" if answer is None else repr(printable(answer))[:200]
