"""The command ``pg-status``."""
