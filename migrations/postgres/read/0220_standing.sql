-- How each resource stands under each policy: amounts, one word with the time since when, and what had been used on the last
-- days. The tables are filled again from the log.
ALTER TABLE status_resources ADD COLUMN by_hand text COLLATE "C" NOT NULL DEFAULT '';     -- manual holds in force: kind and id, with commas
ALTER TABLE status_resources ADD COLUMN reported_at bigint;                      -- the last report of usage
ALTER TABLE status_rows ADD COLUMN used text COLLATE "C";                                  -- weighted, in the period
ALTER TABLE status_rows ADD COLUMN may_use text COLLATE "C";                               -- weighted, with what was carried over
ALTER TABLE status_rows ADD COLUMN trail text COLLATE "C" NOT NULL DEFAULT '';             -- used at the end of each of the last days
ALTER TABLE status_rows ADD COLUMN standing bigint NOT NULL DEFAULT 5;           -- 0 on hold, 1 exempt, 2 paused, 3 slowed down, 4 warned, 5 normal
ALTER TABLE status_rows ADD COLUMN standing_since bigint NOT NULL DEFAULT 0;
ALTER TABLE status_rows ADD COLUMN standing_before bigint;                       -- how it stood before that
DELETE FROM status_mark;
DELETE FROM status_resources;
DELETE FROM status_rows;
DELETE FROM status_thresholds;
DELETE FROM status_policies;
DELETE FROM status_counters;
DELETE FROM status_at_limit;
DELETE FROM consumers WHERE name = 'status_summary';
