-- What the site said last of each account, through its agent.
CREATE TABLE site_answers (
    resource     uuid PRIMARY KEY,
    qos          text COLLATE "C",               -- class of service that the account has
    qos_at       bigint,            -- microseconds since 1970 (UTC)
    limits       text COLLATE "C",               -- limits read back, JSON
    limits_agree bigint,            -- 1: those that were sent
    limits_at    bigint,
    differences  text COLLATE "C",               -- of the newest report, JSON list of sentences; null: none
    reported_at  bigint             -- when those were reported
);
