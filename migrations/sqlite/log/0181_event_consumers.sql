-- Webhooks that want to hear of resources. The address may hold a key, so it stands here and in no event.
CREATE TABLE event_consumers (
    id              BLOB PRIMARY KEY NOT NULL,
    owner           BLOB NOT NULL,
    url             TEXT NOT NULL,
    object_types    TEXT NOT NULL,               -- JSON list; empty: all
    scopes          TEXT NOT NULL,               -- JSON list of objects; empty: everything
    payload_filters TEXT NOT NULL,               -- JSON object of lists
    heard           TEXT NOT NULL,               -- how much of the log it has heard of
    resync          TEXT,                        -- JSON list of types whose present state it still has to be told
    delivered_at    INTEGER,
    error           TEXT NOT NULL,
    error_at        INTEGER,
    attempts        INTEGER NOT NULL,               -- that failed since the last delivery
    blocked         TEXT,                        -- why nothing is sent any more
    created_at      INTEGER NOT NULL,
    modified_at     INTEGER NOT NULL
) STRICT;
