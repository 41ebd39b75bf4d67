-- What exists. `facts` is the payload of the newest event of the stream, `version` its version there.
CREATE TABLE registry_mark (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    position_hi INTEGER NOT NULL,
    position_lo INTEGER NOT NULL,
    rows        INTEGER NOT NULL,   -- objects but resources, numbered over all kinds
    horizon     INTEGER
) STRICT;
-- Customers, groups, projects, offerings and policies.
CREATE TABLE registry_objects (
    no          INTEGER PRIMARY KEY,
    kind        INTEGER NOT NULL,   -- 1 group, 2 customer, 3 project, 4 offering, 5 policy
    id          BLOB NOT NULL UNIQUE,
    slug        TEXT NOT NULL,
    name        TEXT NOT NULL,
    parent      BLOB,               -- customer of a project or an offering, offering of a policy
    gone        INTEGER NOT NULL,   -- retired or deleted
    version     INTEGER NOT NULL,
    facts       TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    created_by  BLOB,
    modified_at INTEGER NOT NULL
) STRICT;
CREATE INDEX registry_objects_by_kind ON registry_objects (kind, slug);
CREATE INDEX registry_objects_by_parent ON registry_objects (parent);
-- Owners of customers, members of projects, groups of customers.
CREATE TABLE registry_links (
    object BLOB NOT NULL,
    role   INTEGER NOT NULL,        -- 1 owner, 2 member, 3 group
    other  BLOB NOT NULL,
    PRIMARY KEY (object, role, other)
) STRICT, WITHOUT ROWID;
CREATE INDEX registry_links_by_other ON registry_links (other, role);
CREATE TABLE registry_resources (
    no          INTEGER PRIMARY KEY,
    id          BLOB NOT NULL UNIQUE,
    slug        TEXT NOT NULL,
    name        TEXT NOT NULL,
    offering    BLOB NOT NULL,
    project     BLOB NOT NULL,
    customer    BLOB NOT NULL,
    backend_id  TEXT NOT NULL,
    limits      TEXT NOT NULL,      -- JSON
    state       INTEGER NOT NULL,   -- place in the list of states
    flags       INTEGER NOT NULL,   -- 1 paused, 2 downscaled
    book        INTEGER NOT NULL,   -- newest: year * 100 + month
    born_at     INTEGER NOT NULL,   -- `created` of the facts
    modified_at INTEGER NOT NULL
) STRICT;
CREATE INDEX registry_resources_by_slug ON registry_resources (slug);
CREATE INDEX registry_resources_by_offering ON registry_resources (offering, backend_id);
CREATE INDEX registry_resources_by_project ON registry_resources (project);
CREATE INDEX registry_resources_by_customer ON registry_resources (customer);
