-- Who is signed in to the web interface, and links that sign somebody in once. Keys are kept as SHA-256 only. Times are
-- microseconds since 1970 (UTC), as in SQLite: one SQL text serves both.

CREATE TABLE sessions (
    session_id uuid PRIMARY KEY,
    user_id    uuid NOT NULL,
    role       text COLLATE "C" NOT NULL CHECK (role IN ('staff', 'support', 'owner', 'member')),
    token_id   uuid,                   -- the token it was opened with: the session ends with it
    way        text COLLATE "C" NOT NULL CHECK (way IN ('token', 'link')),
    key_hash   bytea NOT NULL,
    created_at bigint NOT NULL,
    seen_at    bigint NOT NULL,
    ends_at    bigint NOT NULL,        -- the latest end, however much it is used
    ended_at   bigint
);

CREATE UNIQUE INDEX sessions_key_hash ON sessions (key_hash);
CREATE INDEX sessions_user ON sessions (user_id);

CREATE TABLE login_links (
    link_id    uuid PRIMARY KEY,
    user_id    uuid NOT NULL,
    role       text COLLATE "C" NOT NULL CHECK (role IN ('staff', 'support', 'owner', 'member')),
    key_hash   bytea NOT NULL,
    created_at bigint NOT NULL,
    ends_at    bigint NOT NULL,
    used_at    bigint
);

CREATE UNIQUE INDEX login_links_key_hash ON login_links (key_hash);
