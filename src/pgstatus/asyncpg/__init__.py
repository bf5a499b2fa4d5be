"""asyncpg pools that follow the cluster."""
