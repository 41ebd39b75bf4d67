-- Old parts of the log as files beside the database. The archive itself works on SQLite for now; the tables are the same.

CREATE TABLE segments (
    segment        bigint PRIMARY KEY,
    month          text COLLATE "C" NOT NULL,  -- 2025-01
    first_position bigint NOT NULL,
    last_position  bigint NOT NULL UNIQUE,
    events         bigint NOT NULL,
    file           text COLLATE "C" NOT NULL UNIQUE,
    file_bytes     bigint NOT NULL,
    raw_bytes      bigint NOT NULL,
    rows_sha256    bytea NOT NULL CHECK (length(rows_sha256) = 32),
    file_sha256    bytea NOT NULL CHECK (length(file_sha256) = 32),
    verified_at    bigint NOT NULL
);

CREATE TABLE segment_frames (
    first_position bigint PRIMARY KEY,
    last_position  bigint NOT NULL,
    segment        bigint NOT NULL REFERENCES segments,
    byte_offset    bigint NOT NULL,
    byte_length    bigint NOT NULL,
    raw_length     bigint NOT NULL
);

CREATE TABLE archived_events (
    stream_id bigint NOT NULL,
    version   bigint NOT NULL,
    position  bigint NOT NULL,
    PRIMARY KEY (stream_id, version)
);

CREATE TRIGGER segments_append_only BEFORE UPDATE OR DELETE ON segments FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER segment_frames_append_only BEFORE UPDATE OR DELETE ON segment_frames FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER archived_events_append_only BEFORE UPDATE OR DELETE ON archived_events FOR EACH ROW EXECUTE FUNCTION append_only();
