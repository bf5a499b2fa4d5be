"""The configuration, read from an environment."""
