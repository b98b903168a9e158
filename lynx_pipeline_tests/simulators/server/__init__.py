"""A team's server, played through: the real units' commands on a real PostgreSQL."""
