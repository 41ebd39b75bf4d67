-- How far each consumer has folded the log into its tables. Written in the transaction that changes those tables.
CREATE TABLE consumers (
    name        TEXT NOT NULL,
    building    INTEGER NOT NULL,   -- 0 the tables in use, 1 the tables that a rebuild is filling beside them
    epoch       INTEGER NOT NULL,   -- grows when a rebuild starts and when it replaces the tables in use
    position_hi INTEGER NOT NULL,   -- the two halves of a position, as signed numbers
    position_lo INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,   -- microseconds since 1970 (UTC)
    PRIMARY KEY (name, building)
) STRICT, WITHOUT ROWID;
