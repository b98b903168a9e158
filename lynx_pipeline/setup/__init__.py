"""Setting up a repository, and checking a set-up."""
