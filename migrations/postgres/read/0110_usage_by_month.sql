-- Totals by month first: what a month's reports touch lies together, however many months there are. Rows need no number and
-- no stored id: the id of a total derives from its key. The tables are filled again from the log.
DROP TABLE component_usage;
CREATE TABLE component_usage (
    month       bigint NOT NULL,   -- year * 100 + month
    resource    bigint NOT NULL,
    component   text COLLATE "C" NOT NULL,
    amount      text COLLATE "C" NOT NULL,
    created_at  bigint NOT NULL,
    modified_at bigint NOT NULL,
    PRIMARY KEY (month, resource, component)
);
-- The months that have totals.
CREATE TABLE usage_months (month bigint PRIMARY KEY);
DELETE FROM user_usage;
DELETE FROM usage_resources;
DELETE FROM usage_mark;
DELETE FROM consumers WHERE name = 'usage';
