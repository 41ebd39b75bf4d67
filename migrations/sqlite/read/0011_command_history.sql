-- One row per dispatch; its commands stand in it and are read as one row each. `class` packs policy, period, status and
-- the set of command types (projections/command_history/class.rs).
CREATE TABLE command_history_mark (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    position_hi INTEGER NOT NULL,
    position_lo INTEGER NOT NULL,
    rows        INTEGER NOT NULL,
    horizon     INTEGER
) STRICT;
CREATE TABLE command_history_resources (no INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE) STRICT;
CREATE TABLE command_history_policies  (no INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE) STRICT;
CREATE TABLE command_history (
    no          INTEGER PRIMARY KEY,
    dispatch    BLOB NOT NULL UNIQUE,
    resource    INTEGER NOT NULL,
    class       INTEGER NOT NULL,
    at          INTEGER NOT NULL,   -- decided and queued
    sent_at     INTEGER,
    answered_at INTEGER,
    mode        INTEGER,            -- 1 production, 2 emulator
    success     INTEGER,
    error       TEXT,
    reported    TEXT,               -- JSON list of the commands that the agent ran
    commands    TEXT NOT NULL       -- JSON list of the intended commands
) STRICT;
CREATE INDEX command_history_by_class ON command_history (class, at);
CREATE INDEX command_history_by_resource ON command_history (resource, at, class);
CREATE INDEX command_history_unanswered ON command_history (resource) WHERE (class & 240) < 48;
CREATE TABLE command_history_counts (
    kind   INTEGER NOT NULL,
    class  INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    n      INTEGER NOT NULL,        -- dispatches
    PRIMARY KEY (kind, class, bucket)
) STRICT, WITHOUT ROWID;
-- Reports of an agent that answer nothing known: evidence, never pruned.
CREATE TABLE unmatched_results (
    no       INTEGER PRIMARY KEY,
    event    BLOB NOT NULL,
    resource INTEGER NOT NULL,
    policy   INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    mode     INTEGER NOT NULL,
    success  INTEGER NOT NULL,
    error    TEXT NOT NULL,
    reported TEXT NOT NULL
) STRICT;
CREATE INDEX unmatched_results_by_policy ON unmatched_results (policy, at);
