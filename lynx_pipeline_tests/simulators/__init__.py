"""Simulators: programs that stand in for GitHub Actions, for faults, and for a team's server."""
