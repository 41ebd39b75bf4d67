-- The directory: who the opaque ids in the log are, and which keys open the API. Primary data, not a projection; personal
-- data lives here and nowhere else, so that it can be erased. Times are microseconds since 1970 (UTC), ids are 16 bytes.

CREATE TABLE directory_entries (
    user_id     BLOB PRIMARY KEY,
    kind        TEXT NOT NULL CHECK (kind IN ('user', 'address')),
    username    TEXT,                  -- of users only
    email       TEXT,
    full_name   TEXT NOT NULL DEFAULT '',
    created_at  INTEGER NOT NULL,
    modified_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX directory_usernames ON directory_entries (username) WHERE username IS NOT NULL;
-- One address is one recipient, however its letters are cased.
CREATE UNIQUE INDEX directory_addresses ON directory_entries (lower(email)) WHERE kind = 'address';

CREATE TABLE tokens (
    token_id    BLOB PRIMARY KEY,
    user_id     BLOB NOT NULL,
    role        TEXT NOT NULL CHECK (role IN ('staff', 'support', 'owner', 'member', 'agent')),
    offering_id BLOB,                  -- of agents only
    label       TEXT,
    key_hash    BLOB NOT NULL,         -- SHA-256 of the key; the key itself is kept nowhere
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX tokens_key_hash ON tokens (key_hash);
CREATE INDEX tokens_user ON tokens (user_id);
