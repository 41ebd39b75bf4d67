-- What a pass of the publisher looks at does not grow with what is queued, unread or unanswered.
-- Every message that comes into a queue looks for an unread one on its subject.
CREATE INDEX broker_messages_subject ON broker_messages (queue, subject) WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX broker_messages_dead ON broker_messages (no) WHERE dead_at IS NOT NULL;
-- Every pass looks for what nobody answered in time, and for hand-overs that the log does not have.
CREATE INDEX outbox_sent ON outbox (sent_at) WHERE state IN (1, 4);
CREATE INDEX outbox_no_answer ON outbox (offering) WHERE state = 2;
CREATE INDEX outbox_dead ON outbox (no) WHERE given_up = 1 OR state = 3;
CREATE INDEX outbox_flags_handed ON outbox_flags (resource) WHERE handed IS NOT NULL;
CREATE INDEX outbox_flags_given_up ON outbox_flags (no) WHERE state = 2;
