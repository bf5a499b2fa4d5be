"""A real PostgreSQL cluster for the occasion: for a newcomer's first look, and for the tests."""
