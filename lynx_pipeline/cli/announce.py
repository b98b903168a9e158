"""``announce``: announce a promotion."""

import click

from lynx_pipeline.adapters.notify import CHANNELS
from lynx_pipeline.cli.framework import Command, with_json
from lynx_pipeline.cli.output import print_json
from lynx_pipeline.errors import Refused
from lynx_pipeline.registry import Registry
from lynx_pipeline.registry.announcement import announce as send
from lynx_pipeline.registry.announcement import announcement


@click.command(cls=Command, data=True, example="lynx-pipeline announce v0.3.1")
@click.argument("version")
@with_json
def announce(version: str, as_json: bool) -> int:
    """Announce a promotion on the configured channels.

    The environment variable APPRISE_URLS lists the channels. Refuses if VERSION is not the latest.
    """
    registry = Registry.open()
    entry, latest = registry.promoted(version), registry.promoted()
    if latest.fact.semver != entry.fact.semver:
        raise Refused(
            f"{entry.fact.semver} is not the latest version, {latest.fact.semver} is. No "
            "notification sent."
        )
    delivered = send(entry, registry.settings.identity)
    if as_json:
        title, body = announcement(entry, registry.settings.identity)
        print_json({"title": title, "body": body, "channels": delivered})
    elif delivered:
        print(f"Announced {entry.fact.semver} on {delivered} channels.")
    else:
        print(f"No notification sent: {CHANNELS} names no channel.")
    return 0
