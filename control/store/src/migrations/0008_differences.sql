-- A generation is stored as its difference with the one before, and as a full document now and then: that
-- of one is composed of the last full document up to it and the differences since. All that is there is
-- full. Generations that changed the part of nobody who remembers them stay while later ones build on
-- them.
ALTER TABLE generations ADD COLUMN difference TEXT; -- null: `document` is full; otherwise that is empty
CREATE INDEX generations_full ON generations (id) WHERE difference IS NULL;

-- A network is known by its key in the state document.
CREATE TABLE owned (
    network  TEXT PRIMARY KEY,
    identity TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO owned (network, identity) SELECT port, identity FROM namespaces;
DROP TABLE namespaces;
ALTER TABLE owned RENAME TO namespaces;
