-- Where in the log the events of one correlation id stand: one row per unbroken run of them. A run begins right after one
-- position and ends with another. The mark is the newest run, which the next event may go on with.
CREATE TABLE event_chains (
    correlation_id uuid NOT NULL,
    after_hi       bigint NOT NULL,
    after_lo       bigint NOT NULL,
    last_hi        bigint NOT NULL,
    last_lo        bigint NOT NULL,
    PRIMARY KEY (correlation_id, after_hi, after_lo)
);
CREATE TABLE event_chains_mark (
    one            bigint PRIMARY KEY CHECK (one = 1),
    correlation_id uuid NOT NULL,
    after_hi       bigint NOT NULL,
    after_lo       bigint NOT NULL,
    last_hi        bigint NOT NULL,
    last_lo        bigint NOT NULL
);
