"""A GitHub Actions workflow, run on this machine: its own YAML, real steps, real files.

``Runner`` gets a workflow, an event, a fake GitHub, a fake issuer and a git server, and does what
GitHub's runner would do. Anything that it does not model raises an error; nothing is skipped
silently.
"""
