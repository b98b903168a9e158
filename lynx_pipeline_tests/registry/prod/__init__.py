"""What changes prod: the workflow's verified identity, by what is committed, on evidence.

Everything is real here but the issuer's address: HTTP, signatures, git with its remote, MLflow,
and both kinds of registry.
"""
