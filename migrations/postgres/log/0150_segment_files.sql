-- Segments of the log: their bytes are in the database, where every process finds them. Their rows leave `events`.

CREATE TABLE segment_files (
    file        text COLLATE "C" NOT NULL,
    byte_offset bigint NOT NULL,           -- a row for each frame
    content     bytea NOT NULL,
    PRIMARY KEY (file, byte_offset)
);

-- It is compressed already.
ALTER TABLE segment_files ALTER COLUMN content SET STORAGE EXTERNAL;

-- What belongs to a recorded segment is as fixed as the events in it; what a run left that was cut off is not.
CREATE FUNCTION segment_files_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' OR EXISTS (SELECT FROM segments WHERE file = CASE TG_OP WHEN 'DELETE' THEN OLD.file ELSE NEW.file END) THEN
        RAISE EXCEPTION 'the event log is append-only' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;

CREATE TRIGGER segment_files_stay BEFORE INSERT OR UPDATE OR DELETE ON segment_files
FOR EACH ROW EXECUTE FUNCTION segment_files_stay();
CREATE TRIGGER segment_files_no_truncate BEFORE TRUNCATE ON segment_files FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER segments_no_truncate BEFORE TRUNCATE ON segments FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER segment_frames_no_truncate BEFORE TRUNCATE ON segment_frames FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER archived_events_no_truncate BEFORE TRUNCATE ON archived_events FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- Segments follow one another.
CREATE FUNCTION segments_in_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.last_position < NEW.first_position
        OR NEW.first_position <> (SELECT coalesce(max(last_position), 0) + 1 FROM segments) THEN
        RAISE EXCEPTION 'segments follow one another' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER segments_in_order BEFORE INSERT ON segments FOR EACH ROW EXECUTE FUNCTION segments_in_order();

-- What is archived stands in the log at that moment. Looked at once for all rows of a segment.
CREATE FUNCTION archived_events_are_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM placed p LEFT JOIN events e ON e.position = p.position
                WHERE e.stream_id IS DISTINCT FROM p.stream_id OR e.version IS DISTINCT FROM p.version) THEN
        RAISE EXCEPTION 'only events of the log are archived, once' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER archived_events_are_events AFTER INSERT ON archived_events
REFERENCING NEW TABLE AS placed FOR EACH STATEMENT EXECUTE FUNCTION archived_events_are_events();

-- The one way for a row to go: a verified segment holds it, readers know where it is, and it is not where the log ends.
CREATE FUNCTION archived_rows_go() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.position <= (SELECT coalesce(max(last_position), 0) FROM segments)
        AND OLD.position < (SELECT position FROM log_head)
        AND EXISTS (SELECT FROM archived_events a
                     WHERE a.stream_id = OLD.stream_id AND a.version = OLD.version AND a.position = OLD.position) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the event log is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;

DROP TRIGGER events_no_delete ON events;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION archived_rows_go();

-- A payload in a segment cannot be disposed of any more, so a copy of it in a row cannot either.
CREATE FUNCTION archived_rows_stay_so() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.position <= (SELECT coalesce(max(last_position), 0) FROM segments) THEN
        RAISE EXCEPTION 'the event is archived and cannot be changed' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER events_archived_stay BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION archived_rows_stay_so();

-- Drops the oldest partition if it is full and all of it is archived; no row: it is not. Each of its rows is looked up in the
-- index of the archive first. The lock that it takes then keeps everybody out, so it waits a tenth of a second for it and no more:
-- whoever comes meanwhile waits behind it.
CREATE FUNCTION drop_archived_partition(OUT last_position bigint, OUT dropped bigint) RETURNS SETOF record
LANGUAGE plpgsql SET lock_timeout = '100ms' AS $$
DECLARE
    oldest regclass;
    beyond bigint;
    strays bigint;
BEGIN
    SELECT c.oid, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''?(\d+)''?\)')::bigint INTO oldest, beyond
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'events'::regclass ORDER BY 2 LIMIT 1;
    IF beyond IS NULL OR beyond > (SELECT h.position FROM log_head h)
        OR beyond - 1 > (SELECT coalesce(max(s.last_position), 0) FROM segments s) THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT count(*), count(*) FILTER (WHERE a.position IS DISTINCT FROM e.position)
                      FROM %s e LEFT JOIN archived_events a ON a.stream_id = e.stream_id AND a.version = e.version', oldest)
       INTO dropped, strays;
    IF strays > 0 THEN
        RAISE EXCEPTION 'the event log is append-only' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    EXECUTE format('DROP TABLE %s', oldest);
    last_position := beyond - 1;
    RETURN NEXT;
END $$;
