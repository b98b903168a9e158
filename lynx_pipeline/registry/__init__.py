"""The registry: the only place where production changes."""
