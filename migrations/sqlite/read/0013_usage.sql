-- Month-to-date totals as last reported, and the shares of users in them.
CREATE TABLE usage_mark (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    position_hi INTEGER NOT NULL,
    position_lo INTEGER NOT NULL,
    rows        INTEGER NOT NULL,
    horizon     INTEGER
) STRICT;
CREATE TABLE usage_resources (no INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE) STRICT;
CREATE TABLE component_usage (
    no          INTEGER PRIMARY KEY,
    id          BLOB NOT NULL UNIQUE,
    resource    INTEGER NOT NULL,
    month       INTEGER NOT NULL,   -- year * 100 + month
    component   TEXT NOT NULL,
    amount      TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    modified_at INTEGER NOT NULL
) STRICT;
CREATE INDEX component_usage_by_resource ON component_usage (resource, month);
CREATE TABLE user_usage (
    no          INTEGER PRIMARY KEY,
    id          BLOB NOT NULL UNIQUE,
    usage_id    BLOB NOT NULL,      -- the row of component_usage
    resource    INTEGER NOT NULL,
    month       INTEGER NOT NULL,
    component   TEXT NOT NULL,
    user_id     BLOB NOT NULL,
    amount      TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    modified_at INTEGER NOT NULL
) STRICT;
CREATE INDEX user_usage_by_resource ON user_usage (resource, month);
