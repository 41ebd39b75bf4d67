-- What becomes of later months that end without a report: 0 nothing, 1 the same total, 2 zero.
ALTER TABLE component_usage ADD COLUMN missing bigint NOT NULL DEFAULT 0;
