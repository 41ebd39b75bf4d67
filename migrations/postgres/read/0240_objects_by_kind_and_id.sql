-- Two objects of different kinds may have one id: the log keeps them apart, and so does the table.
DO $$
DECLARE
    former name;
BEGIN
    SELECT conname INTO former FROM pg_constraint WHERE conrelid = 'registry_objects'::regclass AND contype = 'u';
    EXECUTE format('ALTER TABLE registry_objects DROP CONSTRAINT %I', former);
END
$$;
ALTER TABLE registry_objects ADD CONSTRAINT registry_objects_id_kind_key UNIQUE (id, kind);
