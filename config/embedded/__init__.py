"""PostgreSQL and Redis as children of one process, for machines on which neither is installed."""
