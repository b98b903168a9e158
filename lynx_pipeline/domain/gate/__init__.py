"""The gate: its rule, the committed baseline, and the statistics shown beside a verdict."""
