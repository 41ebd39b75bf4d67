-- What the site said last of each account, through its agent.
CREATE TABLE site_answers (
    resource     BLOB PRIMARY KEY,
    qos          TEXT,               -- class of service that the account has
    qos_at       INTEGER,            -- microseconds since 1970 (UTC)
    limits       TEXT,               -- limits read back, JSON
    limits_agree INTEGER,            -- 1: those that were sent
    limits_at    INTEGER,
    differences  TEXT,               -- of the newest report, JSON list of sentences; null: none
    reported_at  INTEGER             -- when those were reported
) STRICT, WITHOUT ROWID;
