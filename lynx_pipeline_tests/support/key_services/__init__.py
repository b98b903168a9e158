"""Key management services on this machine, for tests. Each has real keys, and speaks its real
protocol, as far as signing needs it, with the cloud's own client library.
"""
