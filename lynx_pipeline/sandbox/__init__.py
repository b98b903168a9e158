"""The sandbox: runs a candidate in its own process, isolated and with limits on what it uses."""
