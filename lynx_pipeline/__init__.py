"""A deploy gate for machine-learning models, as a Dagster asset pipeline.

eval set (DVC) and committed baseline (git) say what good enough means;
the candidate's bundle comes from MLflow and is evaluated, in isolation, on the eval set;
the gate compares every bucket's accuracy with the baseline;
only a verdict "passed", recomputed where the registry changes, is promoted.
"""
