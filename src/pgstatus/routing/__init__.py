"""Rules that the connection pools of all drivers share: which host, and how long its pool is kept."""
