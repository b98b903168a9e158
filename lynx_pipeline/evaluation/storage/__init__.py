"""Storage of eval sets and predictions: small ones in memory, large ones as Parquet in DuckDB."""
