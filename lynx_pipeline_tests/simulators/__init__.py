"""Simulators of GitHub Actions, of faults, and of a team's server. See README.md."""
