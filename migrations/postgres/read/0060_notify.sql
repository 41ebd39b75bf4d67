-- What is owed to whom: one row per causing event, channel and recipient. Whether a row is settled is folded from the log
-- (notice_sent, notice_failed); the columns after `state` are the worker's. Beside it, what the consumer has to know of the
-- registry to find the recipients, as it was when the event happened.
CREATE TABLE notices (
    cause           uuid NOT NULL,             -- the event that calls for it
    channel         text COLLATE "C" NOT NULL,             -- mail, webhook
    recipient       uuid NOT NULL,             -- a person or an address of the directory, or an endpoint
    via             text COLLATE "C" NOT NULL,             -- owner, external, endpoint
    resource        uuid NOT NULL,
    customer        uuid NOT NULL,
    policy          uuid,
    template        text COLLATE "C" NOT NULL,
    thresholds      text COLLATE "C" NOT NULL,             -- JSON list of percents
    dispatch        uuid,                      -- of command_failed: told once per dispatch
    stream          text COLLATE "C" NOT NULL,             -- where the causing event stands
    version         bigint NOT NULL,
    occurred_at     bigint NOT NULL,          -- service clock
    state           text COLLATE "C" NOT NULL DEFAULT 'owed' CHECK (state IN ('owed', 'sent', 'failed')),
    notice          uuid,                      -- the message that it goes in
    attempts        bigint NOT NULL DEFAULT 0,
    next_attempt_at bigint,                   -- machine clock
    outcome         text COLLATE "C" CHECK (outcome IN ('sent', 'failed')),  -- known, and not yet in the log
    forced          bigint NOT NULL DEFAULT 0,-- an operator asked for it again
    error           text COLLATE "C",
    PRIMARY KEY (cause, channel, recipient)
);
CREATE INDEX notices_unbundled ON notices (channel, recipient, occurred_at) WHERE state = 'owed' AND notice IS NULL;
CREATE INDEX notices_bundled ON notices (next_attempt_at) WHERE state = 'owed' AND notice IS NOT NULL;
CREATE INDEX notices_by_notice ON notices (notice);
CREATE INDEX notices_by_time ON notices (state, occurred_at);
CREATE INDEX notices_by_dispatch ON notices (dispatch) WHERE dispatch IS NOT NULL;

CREATE TABLE notify_policies (
    policy   uuid PRIMARY KEY,
    offering uuid NOT NULL,
    facts    text COLLATE "C" NOT NULL,
    created  bigint NOT NULL,
    deleted  bigint NOT NULL DEFAULT 0        -- kept: the release of its holds is still told of
);
CREATE INDEX notify_policies_offering ON notify_policies (offering, created);

CREATE TABLE notify_customers (
    customer uuid PRIMARY KEY,
    facts    text COLLATE "C" NOT NULL
);

CREATE TABLE notify_resources (
    resource uuid PRIMARY KEY,
    offering uuid NOT NULL,
    customer uuid NOT NULL
);
