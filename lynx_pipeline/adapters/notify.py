"""Announcements, through apprise, to the channels that ``APPRISE_URLS`` lists.

Their URLs hold secrets, so they come from the environment and stand in no message.
"""

import os
from dataclasses import dataclass

CHANNELS = "APPRISE_URLS"


@dataclass(frozen=True, slots=True)
class Sent:
    """How many channels took a message, and what is wrong with the others, a line each."""

    took: int
    failed: tuple[str, ...]


def configured() -> bool:
    """Whether there is anybody to tell."""
    return bool(os.environ.get(CHANNELS, "").strip())


def send(title: str, body: str) -> Sent:
    """Tell every channel. Never raises: nothing may fail because nobody heard of it."""
    import apprise

    took, failed = 0, []
    channels = apprise.Apprise()
    with apprise.LogCapture(level=apprise.logging.WARNING) as log:
        good = channels.add(os.environ.get(CHANNELS, ""))
    if not good:
        failed.append(f"{CHANNELS} holds something that is no URL of a channel")
    for number, channel in enumerate(channels, 1):
        with apprise.LogCapture(level=apprise.logging.WARNING) as log:
            if channel.notify(title=title, body=body):
                took += 1
                continue
            said = " ".join(log.getvalue().split())
        failed.append(f"channel {number} ({channel.service_name}) took nothing: {said[:300]}")
    return Sent(took, tuple(failed))
