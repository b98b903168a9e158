"""Scenarios of a team's server: the real units' commands with a real PostgreSQL."""
