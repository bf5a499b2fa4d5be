"""psycopg_pool pools that follow the cluster."""
