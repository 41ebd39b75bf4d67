-- Totals by month first: what a month's reports touch lies together, however many months there are. Rows need no number and
-- no stored id: the id of a total derives from its key. The tables are filled again from the log.
DROP TABLE component_usage;
CREATE TABLE component_usage (
    month       INTEGER NOT NULL,   -- year * 100 + month
    resource    INTEGER NOT NULL,
    component   TEXT NOT NULL,
    amount      TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    PRIMARY KEY (month, resource, component)
) STRICT, WITHOUT ROWID;
-- The months that have totals.
CREATE TABLE usage_months (month INTEGER PRIMARY KEY) STRICT;
DELETE FROM user_usage;
DELETE FROM usage_resources;
DELETE FROM usage_mark;
DELETE FROM consumers WHERE name = 'usage';
