-- The account of each resource, and the restrictions that SLURM may have on it: told, and not known to be lifted.
CREATE TABLE outbox_accounts (
    resource BLOB PRIMARY KEY NOT NULL,
    offering BLOB NOT NULL,
    account  TEXT NOT NULL,
    live     INTEGER NOT NULL,
    flags    INTEGER NOT NULL,               -- in force: 1 paused, 2 downscaled
    may      INTEGER NOT NULL                -- what SLURM may have
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_accounts_by_account ON outbox_accounts (offering, account);
-- Accounts that were left restricted by a resource that has them no more.
CREATE TABLE outbox_left (
    offering BLOB NOT NULL,
    account  TEXT NOT NULL,
    resource BLOB NOT NULL,
    flags    INTEGER NOT NULL,
    renamed  INTEGER NOT NULL,               -- 1: the resource has another account, 0: it ended
    left_at  INTEGER NOT NULL,
    PRIMARY KEY (offering, account)
) STRICT, WITHOUT ROWID;
-- What they say follows from the whole log: the outbox is folded again. What was handed over stands in the log, and is not sent
-- again.
DELETE FROM outbox;
DELETE FROM outbox_flags;
DELETE FROM outbox_resets;
DELETE FROM outbox_agents;
DELETE FROM outbox_mark;
DELETE FROM consumers WHERE name = 'outbox';
