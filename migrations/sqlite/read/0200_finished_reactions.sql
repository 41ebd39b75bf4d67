-- How far the log called for reactions, and how far it says that they are finished: whoever folds it anew finds nothing to do
-- twice. What was called for before there was this table ends with the consumer's checkpoint.
CREATE TABLE reaction_marks (
    name        TEXT PRIMARY KEY,   -- called, finished
    position_hi INTEGER NOT NULL,
    position_lo INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO reaction_marks (name, position_hi, position_lo)
    SELECT 'called', position_hi, position_lo FROM consumers WHERE name = 'reactions' AND building = 0 AND position_hi > 0;

-- Whether the log holds something that the reaction led to.
ALTER TABLE reactions ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;

-- Policies whose newest evaluation on a resource failed: a resource without one is settled.
CREATE TABLE failing (
    resource BLOB NOT NULL,
    policy   BLOB NOT NULL,
    PRIMARY KEY (resource, policy)
) STRICT, WITHOUT ROWID;
