-- Two objects of different kinds may have one id: the log keeps them apart, and so does the table.
CREATE TABLE registry_objects_renewed (
    no          INTEGER PRIMARY KEY,
    kind        INTEGER NOT NULL,   -- 1 group, 2 customer, 3 project, 4 offering, 5 policy, 6 and more: parts of an agent
    id          BLOB NOT NULL,
    slug        TEXT NOT NULL,
    name        TEXT NOT NULL,
    parent      BLOB,               -- customer of a project or an offering, offering of a policy or an agent
    gone        INTEGER NOT NULL,   -- retired or deleted
    version     INTEGER NOT NULL,
    facts       TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    created_by  BLOB,
    modified_at INTEGER NOT NULL,
    UNIQUE (id, kind)
) STRICT;
INSERT INTO registry_objects_renewed SELECT no, kind, id, slug, name, parent, gone, version, facts, created_at, created_by, modified_at
    FROM registry_objects;
DROP TABLE registry_objects;
ALTER TABLE registry_objects_renewed RENAME TO registry_objects;
CREATE INDEX registry_objects_by_kind ON registry_objects (kind, slug);
CREATE INDEX registry_objects_by_parent ON registry_objects (parent);
