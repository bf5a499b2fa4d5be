"""A real PostgreSQL cluster, for the demo and for the tests."""
