"""The rules. No Dagster, MLflow, DVC or pandas, no files, no clock: values in, values out."""
