-- Whose part of the desired state a generation, an entry or an event is about. All that is there is
-- from before there were others than the API's own.

CREATE TABLE generation_owners (
    owner      TEXT    NOT NULL,
    generation INTEGER NOT NULL REFERENCES generations,
    PRIMARY KEY (owner, generation)
) STRICT, WITHOUT ROWID;
CREATE INDEX generation_owners_by_generation ON generation_owners (generation);
INSERT INTO generation_owners (owner, generation) SELECT 'api', id FROM generations;

-- `place` counts the entries of an owner: the oldest of each are forgotten, not the oldest of all.
ALTER TABLE audit ADD COLUMN owner TEXT NOT NULL DEFAULT 'api'; -- '-': nobody's
ALTER TABLE audit ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
UPDATE audit SET place = id;
CREATE INDEX audit_by_owner ON audit (owner, place);

ALTER TABLE events ADD COLUMN owner TEXT NOT NULL DEFAULT '-'; -- '-': the gateway's own
ALTER TABLE events ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
UPDATE events SET place = id;
CREATE INDEX events_by_owner ON events (owner, place);
