"""Pure rules: values in, values out. No Dagster, MLflow, DVC or pandas; no files, no clock."""
