"""Minimal scripts for each step, as one would write them without this project: no checks, no
isolation."""
