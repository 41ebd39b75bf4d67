-- What site agents log, as they ship it: for looking into, not for deciding. The newest lines of each agent are kept.
CREATE TABLE agent_logs (
    no          INTEGER PRIMARY KEY AUTOINCREMENT,
    id          BLOB NOT NULL,
    agent       BLOB NOT NULL,
    offering    BLOB NOT NULL,
    logged_at   INTEGER NOT NULL,             -- the agent's clock
    level       INTEGER NOT NULL,
    module      TEXT NOT NULL,
    message     TEXT NOT NULL,
    received_at INTEGER NOT NULL              -- service clock
) STRICT;
CREATE INDEX agent_logs_agent ON agent_logs (agent, no);
CREATE INDEX agent_logs_received ON agent_logs (received_at);
