-- What the import of sacct that reached furthest saw, one row an offering (ADR 27). Beside the log: losing a row loses a check.
CREATE TABLE sacct_imports (
    offering      uuid PRIMARY KEY,
    covered_until bigint NOT NULL,             -- microseconds since 1970 (UTC), as every time here
    measured_at   bigint NOT NULL,
    imported_at   bigint NOT NULL,
    open_jobs     text COLLATE "C"             -- JSON: ids of jobs without an end by cluster; absent if there were too many
);
