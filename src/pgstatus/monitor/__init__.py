"""The monitoring thread."""
