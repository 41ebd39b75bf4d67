-- When the agent last came to the end of looking after the account; microseconds since 1970 (UTC).
ALTER TABLE site_answers ADD COLUMN synced_at INTEGER;
