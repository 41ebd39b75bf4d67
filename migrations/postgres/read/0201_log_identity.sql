-- From which log the tables were made, and what the last event was committed to that each consumer took in: an older log, or
-- another one, is told from the one that these tables go with.
CREATE TABLE made_from (
    log text COLLATE "C" PRIMARY KEY
);
ALTER TABLE consumers ADD COLUMN commitment bytea;
