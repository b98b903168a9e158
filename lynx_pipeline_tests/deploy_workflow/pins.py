"""The commits that the workflows pin their actions to."""

from collections.abc import Iterator

import yaml

PINS = {
    "actions/checkout": "3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1",
    "actions/setup-python": "5fda3b95a4ea91299a34e894583c3862153e4b97 # v7.0.0",
    "actions/upload-artifact": "cf430e030ddbb5b0abf93d22962f4752f3646cd9 # v7.0.2",
    "actions/download-artifact": "9000827ccba6bdab643e8b6fd33ac0654aef8333 # v8.0.2",
    "pypa/gh-action-pypi-publish": "dc37677b2e1c63e2034f94d8a5b11f265b73ba33 # v1.14.2",
}
# The action of the commit that is checked out.
OWN_ACTION = "./"


def unpinned(text: str) -> Iterator[str]:
    """Actions that are not pinned to a known commit with its version in a comment."""
    known = {f"{name}@{pin}" for name, pin in PINS.items()}
    lines = [line.partition("uses: ")[2] for line in text.splitlines() if "uses" in line]
    lines = [line for line in lines if line.partition(" #")[0] != OWN_ACTION]
    used = [
        step["uses"]
        for job in yaml.safe_load(text)["jobs"].values()
        for step in job["steps"]
        if step.get("uses", OWN_ACTION) != OWN_ACTION
    ]
    written = [line.partition(" #")[0] for line in lines if line in known]
    if used != written:
        yield f"not pinned to a known commit: {set(used) - set(written) or lines}"
