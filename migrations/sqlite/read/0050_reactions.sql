-- Re-evaluations that a change of the registry calls for, and how far each is: work that outlives a restart.
CREATE TABLE reactions (
    position_hi    INTEGER NOT NULL,  -- the event that calls for it
    position_lo    INTEGER NOT NULL,
    kind           TEXT NOT NULL,     -- policy, scope, offering, request
    offering       BLOB,
    customer       BLOB,
    policy         BLOB,
    resource       BLOB,
    correlation_id BLOB NOT NULL,
    causation_id   BLOB NOT NULL,
    cursor         BLOB,              -- the last resource done; resources are taken in the order of their ids
    total          INTEGER,           -- resources to do, once counted
    done           INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (position_hi, position_lo)
) STRICT;
