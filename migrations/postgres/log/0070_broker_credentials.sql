-- What agents log in with at a RabbitMQ: its own form of a salted hash, so that it can be set up again without any token.
CREATE TABLE broker_credentials (
    login      text COLLATE "C" PRIMARY KEY NOT NULL,
    hash       text COLLATE "C" NOT NULL,
    updated_at bigint NOT NULL
);
