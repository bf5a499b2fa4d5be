"""The suite with every supported Python and PostgreSQL: ``python -m tests.matrix``."""
