-- A message about restrictions stays until the site says that the account has its class of service. `state` and `resends` are
-- folded from the log; the publisher queues again what nobody confirmed, and gives up in the end.
ALTER TABLE outbox_flags ADD COLUMN state bigint NOT NULL DEFAULT 0;   -- 0 queued, 1 sent, 2 not sent again by itself
ALTER TABLE outbox_flags ADD COLUMN sent_at bigint;                    -- last hand-over; service clock
ALTER TABLE outbox_flags ADD COLUMN sent_no bigint NOT NULL DEFAULT 0; -- its number among all hand-overs; 0 = none
ALTER TABLE outbox_flags ADD COLUMN resends bigint NOT NULL DEFAULT 0;
-- A rebuild may have given it another name.
DROP INDEX IF EXISTS outbox_flags_due;
CREATE INDEX outbox_flags_queued ON outbox_flags (offering, no) WHERE state = 0;
CREATE INDEX outbox_flags_sent ON outbox_flags (offering, sent_at) WHERE state = 1;
