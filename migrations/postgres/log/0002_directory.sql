-- The directory: who the opaque ids in the log are, and which keys open the API. Primary data, not a projection; personal
-- data lives here and nowhere else, so that it can be erased. Times are microseconds since 1970 (UTC), as in SQLite: one
-- SQL text serves both.

CREATE TABLE directory_entries (
    user_id     uuid PRIMARY KEY,
    kind        text COLLATE "C" NOT NULL CHECK (kind IN ('user', 'address')),
    username    text COLLATE "C",      -- of users only
    email       text COLLATE "C",
    full_name   text COLLATE "C" NOT NULL DEFAULT '',
    created_at  bigint NOT NULL,
    modified_at bigint NOT NULL
);

CREATE UNIQUE INDEX directory_usernames ON directory_entries (username) WHERE username IS NOT NULL;
-- One address is one recipient, however its letters are cased.
CREATE UNIQUE INDEX directory_addresses ON directory_entries (lower(email)) WHERE kind = 'address';

CREATE TABLE tokens (
    token_id    uuid PRIMARY KEY,
    user_id     uuid NOT NULL,
    role        text COLLATE "C" NOT NULL CHECK (role IN ('staff', 'support', 'owner', 'member', 'agent')),
    offering_id uuid,                  -- of agents only
    label       text COLLATE "C",
    key_hash    bytea NOT NULL,        -- SHA-256 of the key; the key itself is kept nowhere
    created_at  bigint NOT NULL,
    expires_at  bigint,
    revoked_at  bigint
);

CREATE UNIQUE INDEX tokens_key_hash ON tokens (key_hash);
CREATE INDEX tokens_user ON tokens (user_id);
