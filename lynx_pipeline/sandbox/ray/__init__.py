"""The Ray engine: the same worker processes, on the nodes of a Ray cluster."""
