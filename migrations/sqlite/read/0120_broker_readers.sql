-- Who of several processes on one database reads which queue of the built-in broker, and has which of its messages. On a
-- file there is one such process, which keeps this in memory.
CREATE TABLE broker_readers (
    queue    TEXT NOT NULL,
    holder   BLOB NOT NULL,          -- a process
    readers  INTEGER NOT NULL,
    until_at INTEGER NOT NULL,       -- machine clock; a process that is gone says no more
    PRIMARY KEY (queue, holder)
) STRICT, WITHOUT ROWID;
CREATE TABLE broker_taken (
    no       INTEGER PRIMARY KEY,    -- the message
    holder   BLOB NOT NULL,
    until_at INTEGER NOT NULL        -- machine clock; then somebody else may have it
) STRICT;
CREATE INDEX broker_taken_holder ON broker_taken (holder);
