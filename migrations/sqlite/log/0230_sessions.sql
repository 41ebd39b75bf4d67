-- Who is signed in to the web interface, and links that sign somebody in once. Keys are kept as SHA-256 only. Times are
-- microseconds since 1970 (UTC), ids are 16 bytes.

CREATE TABLE sessions (
    session_id BLOB PRIMARY KEY,
    user_id    BLOB NOT NULL,
    role       TEXT NOT NULL CHECK (role IN ('staff', 'support', 'owner', 'member')),
    token_id   BLOB,                   -- the token it was opened with: the session ends with it
    way        TEXT NOT NULL CHECK (way IN ('token', 'link')),
    key_hash   BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    ends_at    INTEGER NOT NULL,       -- the latest end, however much it is used
    ended_at   INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX sessions_key_hash ON sessions (key_hash);
CREATE INDEX sessions_user ON sessions (user_id);

CREATE TABLE login_links (
    link_id    BLOB PRIMARY KEY,
    user_id    BLOB NOT NULL,
    role       TEXT NOT NULL CHECK (role IN ('staff', 'support', 'owner', 'member')),
    key_hash   BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    ends_at    INTEGER NOT NULL,
    used_at    INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX login_links_key_hash ON login_links (key_hash);
