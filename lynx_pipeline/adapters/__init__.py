"""Adapters: one outside system per module. Foreign exceptions become ours here."""
