-- Manual holds that end by themselves, for the job that ends them.
CREATE TABLE due_holds (
    hold       uuid PRIMARY KEY,
    resource   uuid NOT NULL,
    expires_at bigint NOT NULL     -- microseconds since 1970 (UTC)
);
CREATE INDEX due_holds_expiry ON due_holds (expires_at);
