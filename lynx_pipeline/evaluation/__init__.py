"""Evaluation: from eval set and candidate to evidence and verdict. The registry never changes
here."""
