-- The log: streams of immutable events. Text is compared byte by byte, whatever the locale of the server.

-- What concerns the database as a whole: which clock it lives on, and the like.
CREATE TABLE meta (
    key   text COLLATE "C" PRIMARY KEY,
    value text NOT NULL
);

-- The version stands here too, since a unique index over partitions could not guard it. Updated in place (HOT).
CREATE TABLE streams (
    stream_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name      text COLLATE "C" NOT NULL UNIQUE,
    version   bigint NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE event_kinds (
    kind_id smallint PRIMARY KEY,
    name    text COLLATE "C" NOT NULL UNIQUE
);

-- Where the log ends and how far its partitions reach. One row, changed under the lock of append_events only.
CREATE TABLE log_head (
    one              smallint PRIMARY KEY CHECK (one = 1),
    position         bigint NOT NULL,
    partition_events bigint NOT NULL CHECK (partition_events > 0),
    partition_end    bigint NOT NULL
) WITH (fillfactor = 10);

INSERT INTO log_head (one, position, partition_events, partition_end) VALUES (1, 0, 10000000, 0);

CREATE TABLE events (
    position       bigint NOT NULL,       -- given by append_events, without holes, in the order of commits
    stream_id      bigint NOT NULL,
    version        bigint NOT NULL,       -- 1, 2, 3 … within the stream
    kind_id        smallint NOT NULL,
    event_id       uuid NOT NULL,         -- deterministic ids are random: an index on them would cost more than the log
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL,
    actor_kind     smallint NOT NULL,     -- 1 staff, 2 support, 3 owner, 4 member, 5 agent, 6 system, 7 cli
    actor_id       uuid,
    correlation_id uuid NOT NULL,
    causation_id   uuid,
    reason         text,
    payload        text,                  -- NULL once disposed of, and so is the salt
    salt           bytea,
    commitment     bytea NOT NULL,        -- SHA-256 over salt and payload
    PRIMARY KEY (position)
) PARTITION BY RANGE (position);

-- Not unique, which an index over partitions cannot be without the position: append_events is the only way in.
CREATE INDEX events_stream ON events (stream_id, version);

CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the event log is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- The one change that an event can see: payload and salt go, both at once, and nothing else moves.
CREATE TRIGGER events_append_only BEFORE UPDATE ON events FOR EACH ROW
WHEN (NOT (
    NEW.payload IS NULL AND NEW.salt IS NULL
    AND NEW.position = OLD.position AND NEW.stream_id = OLD.stream_id AND NEW.version = OLD.version
    AND NEW.kind_id = OLD.kind_id AND NEW.event_id = OLD.event_id
    AND NEW.occurred_at = OLD.occurred_at AND NEW.recorded_at = OLD.recorded_at
    AND NEW.actor_kind = OLD.actor_kind AND NEW.actor_id IS NOT DISTINCT FROM OLD.actor_id
    AND NEW.correlation_id = OLD.correlation_id AND NEW.causation_id IS NOT DISTINCT FROM OLD.causation_id
    AND NEW.reason IS NOT DISTINCT FROM OLD.reason AND NEW.commitment = OLD.commitment
))
EXECUTE FUNCTION append_only();

CREATE TRIGGER events_no_delete BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- An event's stream and type are part of it, so their names are as fixed as the event; a version only grows.
CREATE TRIGGER streams_no_update BEFORE UPDATE ON streams FOR EACH ROW
WHEN (NEW.stream_id <> OLD.stream_id OR NEW.name <> OLD.name OR NEW.version <= OLD.version)
EXECUTE FUNCTION append_only();

CREATE TRIGGER streams_no_delete BEFORE DELETE ON streams FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER streams_no_truncate BEFORE TRUNCATE ON streams FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER event_kinds_no_update BEFORE UPDATE ON event_kinds FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER event_kinds_no_delete BEFORE DELETE ON event_kinds FOR EACH ROW EXECUTE FUNCTION append_only();
CREATE TRIGGER event_kinds_no_truncate BEFORE TRUNCATE ON event_kinds FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- Makes the next partition. Attached, not created in place: that takes no lock that a reader would notice.
CREATE FUNCTION add_events_partition() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    head log_head;
    name text;
BEGIN
    SELECT * INTO STRICT head FROM log_head FOR UPDATE;
    name := 'events_' || head.partition_end;
    EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', name);
    EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                   name, head.partition_end, head.partition_end + head.partition_events);
    EXECUTE format('CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION append_only()', name);
    UPDATE log_head SET partition_end = partition_end + partition_events;
END $$;

SELECT add_events_partition();

-- Who does what alone. The epoch changes with the holder: a holder that was away too long is told from its successor.
CREATE TABLE leases (
    name       text COLLATE "C" PRIMARY KEY,
    holder     uuid NOT NULL,             -- a process
    epoch      bigint NOT NULL,
    expires_at timestamptz NOT NULL       -- by the clock of this server
);

-- The only way into the log: one call, one statement, any number of streams, each at most once. Lock, checks and rows are
-- all made in here, so that a slow client cannot hold the lock. An expected version below 0 is any. Who appends as the
-- holder of a lease says so, and is refused once the lease has gone to somebody else.
-- `outcome`: 0 the version is another one (and stands in `version`), 1 appended, 2 the lease is lost.
CREATE FUNCTION append_events(
    p_stream text[], p_expected bigint[], p_count integer[], p_lease text[], p_epoch bigint[],
    p_kinds text[], p_recorded_at timestamptz,
    p_request integer[], p_offset integer[], p_kind integer[], p_event_id uuid[], p_occurred_at timestamptz[],
    p_actor_kind smallint[], p_actor_id uuid[], p_correlation_id uuid[], p_causation_id uuid[], p_reason text[],
    p_payload text[], p_salt bytea[], p_commitment bytea[]
) RETURNS TABLE (request bigint, outcome integer, version bigint, last_position bigint)
LANGUAGE plpgsql AS $$
DECLARE
    head     log_head;
    held     text[];
    kind_ids smallint[];
BEGIN
    PERFORM pg_advisory_xact_lock(7305804402333418);  -- the order of positions is the order of commits, over all instances
    SELECT * INTO STRICT head FROM log_head;
    WHILE head.position + cardinality(p_event_id) >= head.partition_end - head.partition_events / 10 LOOP
        PERFORM add_events_partition();
        SELECT * INTO STRICT head FROM log_head;
    END LOOP;
    -- Row locks that keep a successor out until this is committed, but not the holder from renewing.
    SELECT array_agg(l.name) INTO held FROM (
        SELECT leases.name FROM leases JOIN unnest(p_lease, p_epoch) AS w(name, epoch) USING (name, epoch) FOR KEY SHARE OF leases
    ) l;
    SELECT array_agg(e.kind_id ORDER BY k.ord) INTO kind_ids
      FROM unnest(p_kinds) WITH ORDINALITY AS k(name, ord) JOIN event_kinds e ON e.name = k.name;
    IF coalesce(cardinality(kind_ids), 0) < cardinality(p_kinds) THEN
        INSERT INTO event_kinds (kind_id, name)
        SELECT (SELECT coalesce(max(kind_id), 0) FROM event_kinds) + row_number() OVER (ORDER BY k.ord), k.name
          FROM unnest(p_kinds) WITH ORDINALITY AS k(name, ord)
         WHERE NOT EXISTS (SELECT FROM event_kinds e WHERE e.name = k.name);
        SELECT array_agg(e.kind_id ORDER BY k.ord) INTO kind_ids
          FROM unnest(p_kinds) WITH ORDINALITY AS k(name, ord) JOIN event_kinds e ON e.name = k.name;
    END IF;
    INSERT INTO streams (name, version)
    SELECT w.name, 0 FROM unnest(p_stream, p_expected, p_lease) WITH ORDINALITY AS w(name, expected, lease, ord)
     WHERE w.expected <= 0 AND (w.lease IS NULL OR w.lease = ANY (held))
       AND NOT EXISTS (SELECT FROM streams s WHERE s.name = w.name)
     ORDER BY w.ord;
    RETURN QUERY
    WITH want AS (
        SELECT w.*, w.lease IS NULL OR coalesce(w.lease = ANY (held), false) AS may
          FROM unnest(p_stream, p_expected, p_count, p_lease) WITH ORDINALITY AS w(name, expected, n, lease, ord)
    ), ok AS (
        UPDATE streams s SET version = s.version + w.n FROM want w
         WHERE s.name = w.name AND w.may AND (w.expected < 0 OR s.version = w.expected)
        RETURNING w.ord, w.n, s.stream_id, s.version
    ), put AS (
        INSERT INTO events (position, stream_id, version, kind_id, event_id, occurred_at, recorded_at, actor_kind, actor_id,
                            correlation_id, causation_id, reason, payload, salt, commitment)
        SELECT head.position + row_number() OVER (ORDER BY e.ord), ok.stream_id, ok.version - ok.n + e.off,
               kind_ids[e.kind], e.event_id, e.occurred_at, p_recorded_at, e.actor_kind, e.actor_id, e.correlation_id,
               e.causation_id, e.reason, e.payload, e.salt, e.commitment
          FROM unnest(p_request, p_offset, p_kind, p_event_id, p_occurred_at, p_actor_kind, p_actor_id, p_correlation_id,
                      p_causation_id, p_reason, p_payload, p_salt, p_commitment) WITH ORDINALITY
               AS e(request, off, kind, event_id, occurred_at, actor_kind, actor_id, correlation_id, causation_id, reason,
                    payload, salt, commitment, ord)
          JOIN ok ON ok.ord = e.request
        RETURNING events.stream_id, events.position
    ), last AS (
        SELECT put.stream_id, max(put.position) AS position FROM put GROUP BY put.stream_id
    ), moved AS (
        UPDATE log_head SET position = greatest(log_head.position, (SELECT max(last.position) FROM last))
         WHERE EXISTS (SELECT FROM last)
    )
    SELECT w.ord, CASE WHEN ok.ord IS NOT NULL THEN 1 WHEN w.may THEN 0 ELSE 2 END,
           coalesce(ok.version, s.version, 0), last.position
      FROM want w LEFT JOIN ok ON ok.ord = w.ord LEFT JOIN last ON last.stream_id = ok.stream_id
      LEFT JOIN streams s ON s.name = w.name;
    -- A hint only; collapsed per transaction.
    NOTIFY sluice_log;
END $$;
