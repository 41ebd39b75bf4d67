-- Old parts of the log as files beside the database. A segment is recorded once its file was read back and compared; only
-- then may its rows go, all but the newest of each stream, which says what version the stream is at.

CREATE TABLE segments (
    segment        INTEGER PRIMARY KEY,
    month          TEXT NOT NULL,             -- 2025-01
    first_position INTEGER NOT NULL,
    last_position  INTEGER NOT NULL,
    events         INTEGER NOT NULL,
    file           TEXT NOT NULL UNIQUE,      -- in the folder of the archive
    file_bytes     INTEGER NOT NULL,
    raw_bytes      INTEGER NOT NULL,
    rows_sha256    BLOB NOT NULL CHECK (length(rows_sha256) = 32),
    file_sha256    BLOB NOT NULL CHECK (length(file_sha256) = 32),
    verified_at    INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX segments_last ON segments (last_position);

-- Where in a segment's file its events lie.
CREATE TABLE segment_frames (
    first_position INTEGER PRIMARY KEY,
    last_position  INTEGER NOT NULL,
    segment        INTEGER NOT NULL REFERENCES segments,
    byte_offset    INTEGER NOT NULL,
    byte_length    INTEGER NOT NULL,
    raw_length     INTEGER NOT NULL
) STRICT;

-- Which position an archived version of a stream has.
CREATE TABLE archived_events (
    stream_id INTEGER NOT NULL,
    version   INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    PRIMARY KEY (stream_id, version)
) STRICT, WITHOUT ROWID;

-- Segments follow one another and are never changed.
CREATE TRIGGER segments_in_order BEFORE INSERT ON segments
WHEN NEW.last_position < NEW.first_position
    OR NEW.first_position <= (SELECT coalesce(max(last_position), 0) FROM segments)
BEGIN
    SELECT RAISE(ABORT, 'segments follow one another');
END;

CREATE TRIGGER segments_no_update BEFORE UPDATE ON segments
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

CREATE TRIGGER segments_no_delete BEFORE DELETE ON segments
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

CREATE TRIGGER segment_frames_no_update BEFORE UPDATE ON segment_frames
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

CREATE TRIGGER segment_frames_no_delete BEFORE DELETE ON segment_frames
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

CREATE TRIGGER segment_frames_no_replace BEFORE INSERT ON segment_frames
WHEN EXISTS (SELECT 1 FROM segment_frames WHERE first_position = NEW.first_position)
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

-- What is archived stands in the log at that moment, and stays archived.
CREATE TRIGGER archived_events_are_events BEFORE INSERT ON archived_events
WHEN NOT EXISTS (
        SELECT 1 FROM events
        WHERE stream_id = NEW.stream_id AND version = NEW.version AND position = NEW.position
    )
    OR EXISTS (SELECT 1 FROM archived_events WHERE stream_id = NEW.stream_id AND version = NEW.version)
BEGIN
    SELECT RAISE(ABORT, 'only events of the log are archived, once');
END;

CREATE TRIGGER archived_events_no_update BEFORE UPDATE ON archived_events
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

CREATE TRIGGER archived_events_no_delete BEFORE DELETE ON archived_events
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

-- The one way for a row to go: a verified segment holds it, its stream has newer events, and readers know where it is.
DROP TRIGGER events_no_delete;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events
WHEN OLD.position > (SELECT coalesce(max(last_position), 0) FROM segments)
    OR NOT EXISTS (
        SELECT 1 FROM archived_events
        WHERE stream_id = OLD.stream_id AND version = OLD.version AND position = OLD.position
    )
    OR NOT EXISTS (SELECT 1 FROM events WHERE stream_id = OLD.stream_id AND version > OLD.version)
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

-- What was archived cannot come back as something else.
DROP TRIGGER events_no_replace;
CREATE TRIGGER events_no_replace BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE position = NEW.position)
    OR EXISTS (SELECT 1 FROM events WHERE stream_id = NEW.stream_id AND version >= NEW.version)
    OR NEW.position <= (SELECT coalesce(max(last_position), 0) FROM segments)
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only');
END;

-- A payload in a segment cannot be disposed of any more, so a copy of it in a row cannot either.
CREATE TRIGGER events_archived_stay BEFORE UPDATE ON events
WHEN OLD.position <= (SELECT coalesce(max(last_position), 0) FROM segments)
BEGIN
    SELECT RAISE(ABORT, 'the event is archived and cannot be changed');
END;
