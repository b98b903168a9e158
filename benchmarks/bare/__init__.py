"""What somebody without this project would write for each step: no checks, no isolation."""
