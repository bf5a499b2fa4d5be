"""Evidence of other pg-status instances, instead of checks of PostgreSQL."""
