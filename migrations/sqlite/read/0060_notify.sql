-- What is owed to whom: one row per causing event, channel and recipient. Whether a row is settled is folded from the log
-- (notice_sent, notice_failed); the columns after `state` are the worker's. Beside it, what the consumer has to know of the
-- registry to find the recipients, as it was when the event happened.
CREATE TABLE notices (
    cause           BLOB NOT NULL,             -- the event that calls for it
    channel         TEXT NOT NULL,             -- mail, webhook
    recipient       BLOB NOT NULL,             -- a person or an address of the directory, or an endpoint
    via             TEXT NOT NULL,             -- owner, external, endpoint
    resource        BLOB NOT NULL,
    customer        BLOB NOT NULL,
    policy          BLOB,
    template        TEXT NOT NULL,
    thresholds      TEXT NOT NULL,             -- JSON list of percents
    dispatch        BLOB,                      -- of command_failed: told once per dispatch
    stream          TEXT NOT NULL,             -- where the causing event stands
    version         INTEGER NOT NULL,
    occurred_at     INTEGER NOT NULL,          -- service clock
    state           TEXT NOT NULL DEFAULT 'owed' CHECK (state IN ('owed', 'sent', 'failed')),
    notice          BLOB,                      -- the message that it goes in
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER,                   -- machine clock
    outcome         TEXT CHECK (outcome IN ('sent', 'failed')),  -- known, and not yet in the log
    forced          INTEGER NOT NULL DEFAULT 0,-- an operator asked for it again
    error           TEXT,
    PRIMARY KEY (cause, channel, recipient)
) STRICT;
CREATE INDEX notices_unbundled ON notices (channel, recipient, occurred_at) WHERE state = 'owed' AND notice IS NULL;
CREATE INDEX notices_bundled ON notices (next_attempt_at) WHERE state = 'owed' AND notice IS NOT NULL;
CREATE INDEX notices_by_notice ON notices (notice);
CREATE INDEX notices_by_time ON notices (state, occurred_at);
CREATE INDEX notices_by_dispatch ON notices (dispatch) WHERE dispatch IS NOT NULL;

CREATE TABLE notify_policies (
    policy   BLOB PRIMARY KEY,
    offering BLOB NOT NULL,
    facts    TEXT NOT NULL,
    created  INTEGER NOT NULL,
    deleted  INTEGER NOT NULL DEFAULT 0        -- kept: the release of its holds is still told of
) STRICT, WITHOUT ROWID;
CREATE INDEX notify_policies_offering ON notify_policies (offering, created);

CREATE TABLE notify_customers (
    customer BLOB PRIMARY KEY,
    facts    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE notify_resources (
    resource BLOB PRIMARY KEY,
    offering BLOB NOT NULL,
    customer BLOB NOT NULL
) STRICT, WITHOUT ROWID;
