-- What the notary keeps beside the log: its signed checkpoints, which are in the log too and so are known even where events
-- at the end of the log are gone; and the tree over all events in tiles of 256 hashes, which can be made again from the log.
CREATE TABLE notary_checkpoints (
    checkpoint_id uuid PRIMARY KEY,            -- the event that recorded it
    size          bigint NOT NULL,             -- the first so many events of the log
    made_at       bigint NOT NULL,             -- microseconds since 1970 (UTC), as in SQLite: one SQL text serves both
    reason        text COLLATE "C" NOT NULL,
    note          text NOT NULL
);
CREATE INDEX notary_checkpoints_by_size ON notary_checkpoints (size, made_at);

-- How many events the tiles hold, and where the last of them stands. One row, which whoever adds to the tiles moves on.
CREATE TABLE notary_tree (
    one         smallint PRIMARY KEY CHECK (one = 1),
    size        bigint NOT NULL,
    position    bigint NOT NULL,
    position_lo bigint NOT NULL
);
INSERT INTO notary_tree (one, size, position, position_lo) VALUES (1, 0, 0, 0);

CREATE TABLE notary_tiles (
    level       smallint NOT NULL,             -- 0: leaves
    number      bigint NOT NULL,
    hashes      bytea NOT NULL,                -- 32 bytes each, at most 256 of them
    position    bigint NOT NULL,               -- of the last event, in level 0
    position_lo bigint NOT NULL,
    PRIMARY KEY (level, number)
);
-- Hashes do not compress; so they need not be tried.
ALTER TABLE notary_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;
