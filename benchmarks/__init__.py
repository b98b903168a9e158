"""How fast this is, as ratios against the least that would do the same. Run ``just benchmarks``."""
