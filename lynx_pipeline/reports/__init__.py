"""A verdict as people read it."""
