-- Manual holds in force, of all resources: listed, shown beside the resource they are on, and ended when their time is over.
CREATE TABLE manual_holds (
    hold       uuid PRIMARY KEY,
    resource   uuid NOT NULL,
    kind       text COLLATE "C" NOT NULL,       -- pause, downscale, exemption
    reason     text COLLATE "C" NOT NULL,
    ticket     text COLLATE "C",
    placed_at  bigint NOT NULL,    -- microseconds since 1970 (UTC)
    expires_at bigint
);
CREATE INDEX manual_holds_resource ON manual_holds (resource, placed_at);
CREATE INDEX manual_holds_placed ON manual_holds (placed_at, hold);
CREATE INDEX manual_holds_expiry ON manual_holds (expires_at) WHERE expires_at IS NOT NULL;

-- Only those that end by themselves stood here.
DROP TABLE due_holds;
DELETE FROM consumers WHERE name = 'due_holds';
