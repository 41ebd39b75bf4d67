-- On SQLite segments are files beside the database; only PostgreSQL keeps their bytes in it. There is nothing to change.
SELECT 1;
