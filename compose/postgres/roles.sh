#!/bin/bash
# Runs once, when PostgreSQL's data folder is made: the application's role, which owns its database and is no superuser,
# and Grafana's, which reads the views of the schema `dashboards` alone.
psql -qX -v ON_ERROR_STOP=1 -U "${POSTGRES_USER:-postgres}" -d postgres <<'SQL'
\getenv application DATABASE_PASSWORD
\getenv dashboards GRAFANA_DATABASE_PASSWORD
CREATE ROLE fintech LOGIN PASSWORD :'application';
CREATE DATABASE fintech OWNER fintech;
CREATE ROLE grafana LOGIN PASSWORD :'dashboards' CONNECTION LIMIT 10;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '10s';
SQL
