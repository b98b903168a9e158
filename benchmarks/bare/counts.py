"""ITEMS PREDICTIONS: bucket counts of two Parquet files by one DuckDB query."""

import sys

import duckdb

items, predictions = sys.argv[1:]
query = f"""
    SELECT cell, count(*), count(*) FILTER (a.prediction = answers[1])
    FROM '{items}' POSITIONAL JOIN '{predictions}' a GROUP BY cell
"""  # our own paths
print(len(duckdb.sql(query).fetchall()))
