"""Evaluation: from eval set and candidate to evidence and verdict. Never changes the registry."""
