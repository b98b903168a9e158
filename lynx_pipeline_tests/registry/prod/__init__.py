"""Changing prod: it takes the workflow's verified identity, committed rules and evidence.

Everything is real except the issuer's address: HTTP, signatures, git with its remote, MLflow, and
both kinds of registry.
"""
