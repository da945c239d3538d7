#!/bin/sh
# Runs once, when the database is made: the role that the application connects as, which owns nothing.
set -eu
psql --set=ON_ERROR_STOP=1 --set=password="$APPLICATION_PASSWORD" --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
CREATE ROLE perennial LOGIN PASSWORD :'password';
SQL
