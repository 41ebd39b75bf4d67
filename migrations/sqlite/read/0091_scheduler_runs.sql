-- Runs of scheduled jobs, the newest of each job: what happened, how far a run is, and where one goes on that was cut short.
CREATE TABLE scheduler_runs (
    run         BLOB PRIMARY KEY,
    job         TEXT NOT NULL,
    due         INTEGER NOT NULL,              -- microseconds since 1970 (UTC), as every time here; service clock
    attempt     INTEGER NOT NULL,              -- 1 unless an earlier one for the same instant failed or was cut short
    state       TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed', 'interrupted')),
    started_at  INTEGER NOT NULL,
    finished_at INTEGER,
    took_micros INTEGER,                       -- machine clock
    done        INTEGER NOT NULL DEFAULT 0,    -- resources, rows or holds
    total       INTEGER,                       -- of so many, once counted
    failed      INTEGER NOT NULL DEFAULT 0,    -- of those done, those that could not be
    cursor      BLOB,                          -- the last resource done; resources are taken in the order of their ids
    counts      TEXT NOT NULL DEFAULT '{}',    -- JSON: what was counted, by name
    error       TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX scheduler_runs_job ON scheduler_runs (job, started_at, run);
CREATE INDEX scheduler_runs_time ON scheduler_runs (started_at, run);

-- Resources whose last evaluation failed: the settings sync tries them again, at growing intervals.
CREATE TABLE unsettled (
    resource BLOB PRIMARY KEY,
    due_at   INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX unsettled_due ON unsettled (due_at);
