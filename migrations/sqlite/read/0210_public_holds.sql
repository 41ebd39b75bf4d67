-- Whether the people of the resource may read why a hold is there.
ALTER TABLE manual_holds ADD COLUMN public INTEGER NOT NULL DEFAULT 0;
