-- Who has a SLURM account: its `backend_id`, else its name. SLURM knows no capital letters in accounts.
CREATE INDEX registry_resources_by_account ON registry_resources (lower(CASE WHEN backend_id = '' THEN name ELSE backend_id END));
