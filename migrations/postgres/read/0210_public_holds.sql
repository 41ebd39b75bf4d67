-- Whether the people of the resource may read why a hold is there.
ALTER TABLE manual_holds ADD COLUMN public bigint NOT NULL DEFAULT 0;
