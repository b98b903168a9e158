"""Announcements, sent with apprise to the channels that ``APPRISE_URLS`` lists.

The channels' URLs contain secrets, so they come from the environment and appear in no message.
"""

import os
from dataclasses import dataclass

CHANNELS = "APPRISE_URLS"


@dataclass(frozen=True, slots=True)
class Sent:
    """To how many channels a message was delivered, and one error text for each failure."""

    delivered: int
    failed: tuple[str, ...]


def configured() -> bool:
    """Whether any channel is configured."""
    return bool(os.environ.get(CHANNELS, "").strip())


def send(title: str, body: str) -> Sent:
    """Send a message to every channel. Never raises: a failed announcement must not fail what it
    announces."""
    import apprise

    delivered, failed = 0, []
    channels = apprise.Apprise()
    with apprise.LogCapture(level=apprise.logging.WARNING) as log:
        all_valid = channels.add(os.environ.get(CHANNELS, ""))
    if not all_valid:
        failed.append(f"{CHANNELS} contains an invalid channel URL")
    for number, channel in enumerate(channels, 1):
        with apprise.LogCapture(level=apprise.logging.WARNING) as log:
            if channel.notify(title=title, body=body):
                delivered += 1
                continue
            reason = " ".join(log.getvalue().split())[:300]
        failed.append(f"delivery to channel {number} ({channel.service_name}) failed: {reason}")
    return Sent(delivered, tuple(failed))
