"""Rules for the connection pools of all drivers: the host of a read, the end of a pool."""
