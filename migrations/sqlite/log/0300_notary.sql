-- What the notary keeps beside the log: its signed checkpoints, which are in the log too and so are known even where events
-- at the end of the log are gone; and the tree over all events in tiles of 256 hashes, which can be made again from the log.
CREATE TABLE notary_checkpoints (
    checkpoint_id BLOB PRIMARY KEY NOT NULL,   -- the event that recorded it
    size          INTEGER NOT NULL,            -- the first so many events of the log
    made_at       INTEGER NOT NULL,            -- microseconds since 1970 (UTC), as every time here
    reason        TEXT NOT NULL,
    note          TEXT NOT NULL
) STRICT;
CREATE INDEX notary_checkpoints_by_size ON notary_checkpoints (size, made_at);

-- How many events the tiles hold, and where the last of them stands. One row, which whoever adds to the tiles moves on.
CREATE TABLE notary_tree (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    size        INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    position_lo INTEGER NOT NULL
) STRICT;
INSERT INTO notary_tree (one, size, position, position_lo) VALUES (1, 0, 0, 0);

CREATE TABLE notary_tiles (
    level       INTEGER NOT NULL,              -- 0: leaves
    number      INTEGER NOT NULL,
    hashes      BLOB NOT NULL,                 -- 32 bytes each, at most 256 of them
    position    INTEGER NOT NULL,              -- of the last event, in level 0
    position_lo INTEGER NOT NULL,
    PRIMARY KEY (level, number)
) STRICT;
