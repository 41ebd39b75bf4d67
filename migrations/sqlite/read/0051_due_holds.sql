-- Manual holds that end by themselves, for the job that ends them.
CREATE TABLE due_holds (
    hold       BLOB PRIMARY KEY,
    resource   BLOB NOT NULL,
    expires_at INTEGER NOT NULL     -- microseconds since 1970 (UTC)
) STRICT, WITHOUT ROWID;
CREATE INDEX due_holds_expiry ON due_holds (expires_at);
