-- Runs of scheduled jobs, the newest of each job: what happened, how far a run is, and where one goes on that was cut short.
CREATE TABLE scheduler_runs (
    run         uuid PRIMARY KEY,
    job         text COLLATE "C" NOT NULL,
    due         bigint NOT NULL,               -- microseconds since 1970 (UTC), as every time here; service clock
    attempt     bigint NOT NULL,               -- 1 unless an earlier one for the same instant failed or was cut short
    state       text COLLATE "C" NOT NULL CHECK (state IN ('running', 'done', 'failed', 'interrupted')),
    started_at  bigint NOT NULL,
    finished_at bigint,
    took_micros bigint,                        -- machine clock
    done        bigint NOT NULL DEFAULT 0,     -- resources, rows or holds
    total       bigint,                        -- of so many, once counted
    failed      bigint NOT NULL DEFAULT 0,     -- of those done, those that could not be
    cursor      uuid,                          -- the last resource done; resources are taken in the order of their ids
    counts      text COLLATE "C" NOT NULL DEFAULT '{}', -- JSON: what was counted, by name
    error       text COLLATE "C"
);
CREATE INDEX scheduler_runs_job ON scheduler_runs (job, started_at, run);
CREATE INDEX scheduler_runs_time ON scheduler_runs (started_at, run);

-- Resources whose last evaluation failed: the settings sync tries them again, at growing intervals.
CREATE TABLE unsettled (
    resource uuid PRIMARY KEY,
    due_at   bigint NOT NULL,
    attempts bigint NOT NULL DEFAULT 0
);
CREATE INDEX unsettled_due ON unsettled (due_at);
