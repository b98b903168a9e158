"""The deploy workflow's own part: who may request a release, its outcome, the comment."""
