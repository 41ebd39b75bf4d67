-- One row per evaluation, numbered in the order of the log. `class` packs policy, period, verbs and outcome into one number
-- (projections/evaluation_log/class.rs), so that one index serves every filter and counts are kept by class.
CREATE TABLE evaluation_log_mark (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    position_hi INTEGER NOT NULL,   -- the last event that mattered: what comes again changes nothing
    position_lo INTEGER NOT NULL,
    rows        INTEGER NOT NULL,   -- numbers given so far, pruned rows included
    horizon     INTEGER             -- rows strictly older are pruned, or about to be; microseconds (UTC)
) STRICT;
CREATE TABLE evaluation_log_resources (no INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE) STRICT;
CREATE TABLE evaluation_log_policies  (no INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE) STRICT;
-- The grace limit (percent) of a policy version; version 0 = the newest version that the policy's own events name.
CREATE TABLE evaluation_log_grace (
    policy  INTEGER NOT NULL,
    version INTEGER NOT NULL,
    percent TEXT NOT NULL,
    PRIMARY KEY (policy, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE evaluation_log (
    no             INTEGER PRIMARY KEY,
    event          BLOB NOT NULL,
    resource       INTEGER NOT NULL,
    class          INTEGER NOT NULL,
    at             INTEGER NOT NULL,
    position_hi    INTEGER NOT NULL,
    position_lo    INTEGER NOT NULL,
    version        INTEGER NOT NULL,   -- of the stream
    book           INTEGER NOT NULL,   -- year * 100 + month of the stream
    policy_version INTEGER NOT NULL,
    cause          INTEGER NOT NULL,   -- the trigger
    flags          INTEGER NOT NULL,   -- 1 paused before, 2 downscaled before, 4 paused after, 8 downscaled after
    percentage     TEXT,               -- none if the evaluation failed
    grace          TEXT,
    explanation    TEXT,
    error          TEXT,
    dispatch       BLOB
) STRICT;
CREATE INDEX evaluation_log_by_class ON evaluation_log (class, at);
CREATE INDEX evaluation_log_by_resource ON evaluation_log (resource, at, class);
CREATE TABLE evaluation_log_counts (
    kind   INTEGER NOT NULL,   -- 0 all, 1 a day, 2 an hour
    class  INTEGER NOT NULL,
    bucket INTEGER NOT NULL,   -- days or hours since 1970 (UTC); 0 for all
    n      INTEGER NOT NULL,
    PRIMARY KEY (kind, class, bucket)
) STRICT, WITHOUT ROWID;
-- What pruning left: totals of pruned rows per resource and month; time restricted runs along with the log.
CREATE TABLE evaluation_log_totals (
    key         INTEGER PRIMARY KEY,   -- month (year * 100 + month) * 2^32 + resource
    evaluations INTEGER NOT NULL,
    failures    INTEGER NOT NULL,
    pauses      INTEGER NOT NULL,
    downscales  INTEGER NOT NULL,
    notices     INTEGER NOT NULL,
    peak        TEXT,
    restricted  INTEGER NOT NULL       -- microseconds
) STRICT;
CREATE TABLE evaluation_log_restricted (resource INTEGER PRIMARY KEY, since INTEGER NOT NULL) STRICT;
