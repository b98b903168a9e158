"""The gate: its rule, the committed baseline, and the statistics shown next to a verdict."""
