"""Adapters: one outside system per module. Each turns foreign exceptions into ours."""
