-- The queues of the built-in broker. A message that was delivered stays for the time that it would have lived, without its
-- body, so that the same message is not taken twice.
CREATE TABLE broker_messages (
    no           INTEGER PRIMARY KEY AUTOINCREMENT,
    queue        TEXT NOT NULL,
    id           TEXT NOT NULL,
    subject      TEXT NOT NULL,                -- of messages on the same subject only the newest waits
    body         TEXT,
    queued_at    INTEGER NOT NULL,             -- service clock
    expires_at   INTEGER NOT NULL,             -- service clock
    delivered_at INTEGER,                      -- service clock
    dead_at      INTEGER,                      -- service clock
    dead_reason  TEXT,
    UNIQUE (queue, id)
) STRICT;
CREATE INDEX broker_messages_waiting ON broker_messages (queue, no) WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX broker_messages_over ON broker_messages (expires_at);
