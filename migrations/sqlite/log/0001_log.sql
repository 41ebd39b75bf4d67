-- The log: streams of immutable events. Times are microseconds since 1970 (UTC), ids are 16 bytes.

-- What concerns the database as a whole: which clock it lives on, and the like.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The version of a stream is that of its newest event; it stands nowhere else.
CREATE TABLE streams (
    stream_id INTEGER PRIMARY KEY,
    name      TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE event_kinds (
    kind_id INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE events (
    position       INTEGER PRIMARY KEY,   -- given by the writer inside its transaction, without holes
    stream_id      INTEGER NOT NULL REFERENCES streams,
    version        INTEGER NOT NULL,      -- 1, 2, 3 … within the stream
    kind_id        INTEGER NOT NULL REFERENCES event_kinds,
    event_id       BLOB NOT NULL,         -- deterministic ids are random: an index on them would cost more than the log
    occurred_at    INTEGER NOT NULL,
    recorded_at    INTEGER NOT NULL,
    actor_kind     INTEGER NOT NULL,      -- 1 staff, 2 support, 3 owner, 4 member, 5 agent, 6 system, 7 cli
    actor_id       BLOB,
    correlation_id BLOB NOT NULL,
    causation_id   BLOB,
    reason         TEXT,
    payload        TEXT,                  -- NULL once disposed of, and so is the salt
    salt           BLOB,
    commitment     BLOB NOT NULL          -- SHA-256 over salt and payload
) STRICT;

CREATE UNIQUE INDEX events_stream ON events (stream_id, version);

-- The one change that an event can see: payload and salt go, both at once, and nothing else moves.
CREATE TRIGGER events_append_only BEFORE UPDATE ON events
WHEN NOT (
    NEW.payload IS NULL AND NEW.salt IS NULL
    AND NEW.position IS OLD.position AND NEW.stream_id IS OLD.stream_id AND NEW.version IS OLD.version
    AND NEW.kind_id IS OLD.kind_id AND NEW.event_id IS OLD.event_id
    AND NEW.occurred_at IS OLD.occurred_at AND NEW.recorded_at IS OLD.recorded_at
    AND NEW.actor_kind IS OLD.actor_kind AND NEW.actor_id IS OLD.actor_id
    AND NEW.correlation_id IS OLD.correlation_id AND NEW.causation_id IS OLD.causation_id
    AND NEW.reason IS OLD.reason AND NEW.commitment IS OLD.commitment
)
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

CREATE TRIGGER events_no_delete BEFORE DELETE ON events
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

-- INSERT OR REPLACE deletes without asking the trigger above, unless the connection has recursive triggers on.
CREATE TRIGGER events_no_replace BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE position = NEW.position)
    OR EXISTS (SELECT 1 FROM events WHERE stream_id = NEW.stream_id AND version = NEW.version)
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

-- An event's stream and type are part of it, so their names are as fixed as the event.
CREATE TRIGGER streams_no_update BEFORE UPDATE ON streams
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

CREATE TRIGGER streams_no_delete BEFORE DELETE ON streams
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

CREATE TRIGGER event_kinds_no_update BEFORE UPDATE ON event_kinds
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

CREATE TRIGGER event_kinds_no_delete BEFORE DELETE ON event_kinds
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

CREATE TRIGGER streams_no_replace BEFORE INSERT ON streams
WHEN EXISTS (SELECT 1 FROM streams WHERE stream_id = NEW.stream_id OR name = NEW.name)
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

CREATE TRIGGER event_kinds_no_replace BEFORE INSERT ON event_kinds
WHEN EXISTS (SELECT 1 FROM event_kinds WHERE kind_id = NEW.kind_id OR name = NEW.name)
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;
