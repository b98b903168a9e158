"""Speed as ratios to minimal scripts that do the same work. Run ``just benchmarks``."""
