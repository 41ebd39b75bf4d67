-- What every policy says of every resource now, and numbers over it that are kept, never counted when read.
CREATE TABLE status_mark (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    position_hi INTEGER NOT NULL,
    position_lo INTEGER NOT NULL,
    rows        INTEGER NOT NULL,   -- numbers given to resources
    horizon     INTEGER             -- unused here
) STRICT;
CREATE TABLE status_resources (
    no       INTEGER PRIMARY KEY,
    id       BLOB NOT NULL UNIQUE,
    offering BLOB NOT NULL,
    customer BLOB NOT NULL,
    live     INTEGER NOT NULL,
    flags    INTEGER NOT NULL,      -- 1 paused, 2 downscaled
    dispatch BLOB,                  -- the newest
    agent    INTEGER NOT NULL       -- how it stands: 0 not needed, 1 queued, 2 sent, 3 confirmed, 4 failed, 5 no answer
) STRICT;
CREATE TABLE status_rows (
    resource     INTEGER NOT NULL,
    policy       BLOB NOT NULL,
    version      INTEGER NOT NULL,
    percentage   TEXT,
    period       TEXT NOT NULL,
    fired        INTEGER NOT NULL,
    is_full      INTEGER NOT NULL,
    held         INTEGER NOT NULL,  -- 1 paused, 2 downscaled
    reached      TEXT NOT NULL,     -- notification thresholds (percent) at or below the percentage, with commas
    evaluated_at INTEGER NOT NULL,
    failed_at    INTEGER,           -- the last evaluation, if it failed
    dispatch     BLOB,
    PRIMARY KEY (resource, policy)
) STRICT, WITHOUT ROWID;
CREATE INDEX status_rows_by_policy ON status_rows (policy, resource);
CREATE TABLE status_thresholds (
    policy  BLOB NOT NULL,
    version INTEGER NOT NULL,
    notify  TEXT NOT NULL,
    PRIMARY KEY (policy, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE status_policies (
    policy            BLOB PRIMARY KEY NOT NULL,
    offering          BLOB NOT NULL,
    fired_at          INTEGER,      -- when has_fired last became true
    last_evaluated_at INTEGER,
    deleted           INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE status_counters (
    owner   BLOB NOT NULL,          -- a policy or an offering
    counter TEXT NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (owner, counter)
) STRICT, WITHOUT ROWID;
CREATE TABLE status_at_limit (
    owner    BLOB NOT NULL,
    customer BLOB NOT NULL,
    n        INTEGER NOT NULL,      -- resources at or above 100 %
    PRIMARY KEY (owner, customer)
) STRICT, WITHOUT ROWID;
