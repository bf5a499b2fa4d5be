"""The process, and one configuration in use."""
