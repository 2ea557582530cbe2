#!/bin/bash
# The roles of the processes, each with the password in its own file. None of them owns a table, and none may do anything
# yet: `manage.py database_roles` gives each what it needs, after every `migrate`, as the owner. Runs by itself when
# PostgreSQL's volume is empty; run it by hand to add a role or to change a password.
set -euo pipefail

secrets=${SECRETS:-/run/secrets}

run() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
        --set database="$POSTGRES_DB" "$@"
}

run <<'SQL'
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
SQL

for process in web worker clock broker ender; do
    run --set role="gatehouse_$process" <<'SQL'
SELECT format('CREATE ROLE %I', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
SQL
    [ -f "$secrets/${process}_password" ] || continue  # the clock has none: it never signs in
    FILE="$secrets/${process}_password" run --set role="gatehouse_$process" <<'SQL'
\set password `cat "$FILE"`
ALTER ROLE :"role" LOGIN PASSWORD :'password';
GRANT CONNECT ON DATABASE :"database" TO :"role";
SQL
done

# Readings of AWS are compared with the rows in temporary tables.
run <<'SQL'
GRANT TEMPORARY ON DATABASE :"database" TO gatehouse_worker;
SQL
