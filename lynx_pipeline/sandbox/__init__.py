"""The sandbox: runs a candidate in its own process, isolated and within limits."""
