"""Dagster's entry point: ``dagster ... -m lynx_pipeline.definitions``."""

import atexit
import gc
import warnings

from dagster import BetaWarning, PreviewWarning

from lynx_pipeline.defs.build import build_project

# At its end Python looks for cycles among all objects, several times, and Dagster has many. The
# memory goes with the process anyway. `benchmarks/results.md` shows what this saves.
atexit.register(gc.freeze)

# Dagster also warns later, where it copies the definitions. Nothing else runs in this process.
warnings.simplefilter("ignore", PreviewWarning)
warnings.simplefilter("ignore", BetaWarning)

# Each step reads the settings of the project that it runs in.
defs = build_project()
