-- What is to be told to site agents: one row per dispatch until it is answered or superseded. States and the columns up to
-- `error` are folded from the log; the columns after it are the publisher's.
CREATE TABLE outbox_mark (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    position_hi INTEGER NOT NULL,
    position_lo INTEGER NOT NULL,
    rows        INTEGER NOT NULL,              -- numbers given to dispatches
    sent        INTEGER NOT NULL               -- numbers given to hand-overs
) STRICT;
CREATE TABLE outbox (
    no              INTEGER PRIMARY KEY,       -- in the order of the log
    dispatch        BLOB NOT NULL UNIQUE,
    resource        BLOB NOT NULL,
    offering        BLOB NOT NULL,
    policy          BLOB NOT NULL,
    state           INTEGER NOT NULL,          -- 0 queued, 1 sent, 2 no answer, 3 failed, 4 superseded after it was sent
    book            INTEGER NOT NULL,          -- year * 100 + month of the stream that has its settings
    version         INTEGER NOT NULL,          -- where in that stream
    reset           INTEGER NOT NULL,          -- it carries a reset of raw usage
    reset_since     INTEGER,                   -- when a queue first took that reset; service clock
    queued_at       INTEGER NOT NULL,          -- service clock
    sent_at         INTEGER,                   -- last hand-over; service clock
    sent_no         INTEGER NOT NULL,          -- its number among all hand-overs; 0 = none
    resends         INTEGER NOT NULL,
    given_up        INTEGER NOT NULL,          -- not sent again by itself
    error           TEXT,
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL DEFAULT 0,-- machine clock
    handed          TEXT                       -- taken by a queue, and not in the log yet: the event as JSON
) STRICT;
CREATE INDEX outbox_due ON outbox (offering, no) WHERE state = 0;
CREATE INDEX outbox_open ON outbox (offering, sent_at) WHERE state IN (1, 2, 4);
CREATE INDEX outbox_given_up ON outbox (no) WHERE given_up = 1;
CREATE INDEX outbox_by_resource ON outbox (resource);
CREATE INDEX outbox_handed ON outbox (no) WHERE handed IS NOT NULL;
-- Resources whose agent is owed a message about its restrictions; the newest restrictions win.
CREATE TABLE outbox_flags (
    resource        BLOB PRIMARY KEY NOT NULL,
    offering        BLOB NOT NULL,
    flags           INTEGER NOT NULL,          -- 1 paused, 2 downscaled
    no              INTEGER NOT NULL,          -- in the order of the log
    queued_at       INTEGER NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL DEFAULT 0,
    handed          TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_flags_due ON outbox_flags (offering, no);
-- Resets of raw usage of which nobody knows whether they were carried out.
CREATE TABLE outbox_resets (
    resource BLOB PRIMARY KEY NOT NULL,
    dispatch BLOB NOT NULL,
    since    INTEGER NOT NULL                  -- when a queue first took it; service clock
) STRICT, WITHOUT ROWID;
-- The last sign of progress of an offering's agent.
CREATE TABLE outbox_agents (
    offering    BLOB PRIMARY KEY NOT NULL,
    progress_at INTEGER NOT NULL,              -- service clock
    progress_no INTEGER NOT NULL               -- the newest hand-over that was answered
) STRICT, WITHOUT ROWID;
