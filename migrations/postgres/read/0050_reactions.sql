-- Re-evaluations that a change of the registry calls for, and how far each is: work that outlives a restart.
CREATE TABLE reactions (
    position_hi    bigint NOT NULL,  -- the event that calls for it
    position_lo    bigint NOT NULL,
    kind           text COLLATE "C" NOT NULL,     -- policy, scope, offering, request
    offering       uuid,
    customer       uuid,
    policy         uuid,
    resource       uuid,
    correlation_id uuid NOT NULL,
    causation_id   uuid NOT NULL,
    cursor         uuid,              -- the last resource done; resources are taken in the order of their ids
    total          bigint,           -- resources to do, once counted
    done           bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (position_hi, position_lo)
);
