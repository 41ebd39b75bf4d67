-- How far each consumer has folded the log into its tables. Written in the transaction that changes those tables.
CREATE TABLE consumers (
    name        text COLLATE "C" NOT NULL,
    building    bigint NOT NULL,   -- 0 the tables in use, 1 the tables that a rebuild is filling beside them
    epoch       bigint NOT NULL,   -- grows when a rebuild starts and when it replaces the tables in use
    position_hi bigint NOT NULL,   -- the two halves of a position, as signed numbers
    position_lo bigint NOT NULL,
    updated_at  bigint NOT NULL,   -- microseconds since 1970 (UTC)
    PRIMARY KEY (name, building)
);
