-- Who of several processes on this database reads which queue of the built-in broker, and has which of its messages.
CREATE TABLE broker_readers (
    queue    text COLLATE "C" NOT NULL,
    holder   uuid NOT NULL,          -- a process
    readers  bigint NOT NULL,
    until_at bigint NOT NULL,        -- machine clock; a process that is gone says no more
    PRIMARY KEY (queue, holder)
);
CREATE TABLE broker_taken (
    no       bigint PRIMARY KEY,     -- the message
    holder   uuid NOT NULL,
    until_at bigint NOT NULL         -- machine clock; then somebody else may have it
);
CREATE INDEX broker_taken_holder ON broker_taken (holder);
