-- What agents log in with at a RabbitMQ: its own form of a salted hash, so that it can be set up again without any token.
CREATE TABLE broker_credentials (
    login      TEXT PRIMARY KEY NOT NULL,
    hash       TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
