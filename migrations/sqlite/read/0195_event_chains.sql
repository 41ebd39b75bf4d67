-- Where in the log the events of one correlation id stand: one row per unbroken run of them. A run begins right after one
-- position and ends with another. The mark is the newest run, which the next event may go on with.
CREATE TABLE event_chains (
    correlation_id BLOB NOT NULL,
    after_hi       INTEGER NOT NULL,
    after_lo       INTEGER NOT NULL,
    last_hi        INTEGER NOT NULL,
    last_lo        INTEGER NOT NULL,
    PRIMARY KEY (correlation_id, after_hi, after_lo)
) STRICT, WITHOUT ROWID;
CREATE TABLE event_chains_mark (
    one            INTEGER PRIMARY KEY CHECK (one = 1),
    correlation_id BLOB NOT NULL,
    after_hi       INTEGER NOT NULL,
    after_lo       INTEGER NOT NULL,
    last_hi        INTEGER NOT NULL,
    last_lo        INTEGER NOT NULL
) STRICT;
