-- Webhooks that want to hear of resources. The address may hold a key, so it stands here and in no event.
CREATE TABLE event_consumers (
    id              uuid PRIMARY KEY NOT NULL,
    owner           uuid NOT NULL,
    url             text COLLATE "C" NOT NULL,
    object_types    text COLLATE "C" NOT NULL,               -- JSON list; empty: all
    scopes          text COLLATE "C" NOT NULL,               -- JSON list of objects; empty: everything
    payload_filters text COLLATE "C" NOT NULL,               -- JSON object of lists
    heard           text COLLATE "C" NOT NULL,               -- how much of the log it has heard of
    resync          text COLLATE "C",                        -- JSON list of types whose present state it still has to be told
    delivered_at    bigint,
    error           text COLLATE "C" NOT NULL,
    error_at        bigint,
    attempts        bigint NOT NULL,               -- that failed since the last delivery
    blocked         text COLLATE "C",                        -- why nothing is sent any more
    created_at      bigint NOT NULL,
    modified_at     bigint NOT NULL
);
