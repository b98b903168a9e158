"""A workflow of GitHub Actions, run on this machine: its own YAML, real steps, real files.

``Runner`` is handed a workflow, an event, a fake GitHub, a fake issuer and a git server, and does
what GitHub's runner would. What it does not know raises; nothing is skipped in silence.
"""
