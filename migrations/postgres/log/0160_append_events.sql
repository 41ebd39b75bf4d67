-- append_events as in 0001_log.sql, but for two things. The answer is made without joining the requests with what became of
-- them, which took as many comparisons as the square of their number: a million in a call with a thousand streams.
-- And an append announces where the log ends, which whoever listens had to ask, once per append and process.
CREATE OR REPLACE FUNCTION append_events(
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
    ), moved AS (
        UPDATE log_head SET position = head.position + (SELECT sum(ok.n) FROM ok) WHERE EXISTS (SELECT FROM ok)
    )
    -- Events come in the order of their requests, so a request's last position is that of all up to it.
    SELECT ok.ord, 1, ok.version, head.position + (sum(ok.n) OVER (ORDER BY ok.ord))::bigint FROM ok
    UNION ALL
    -- NOT IN, which hashes its list: to the planner the lists look short, and it would compare each with each.
    SELECT w.ord, CASE WHEN w.may THEN 0 ELSE 2 END, coalesce(s.version, 0), NULL
      FROM want w LEFT JOIN streams s ON s.name = w.name WHERE w.ord NOT IN (SELECT ok.ord FROM ok);
    -- A hint only. It says how far the log reaches, so that nobody has to ask.
    PERFORM pg_notify('sluice_log', l.position::text) FROM log_head l WHERE l.position > head.position;
END $$;
