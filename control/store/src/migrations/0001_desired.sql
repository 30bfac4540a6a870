-- What is desired, in all its generations, and the namespaces that Ringway made for it.

CREATE TABLE generations (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    time     INTEGER NOT NULL,
    actor    TEXT    NOT NULL,
    note     TEXT    NOT NULL,
    document TEXT    NOT NULL -- the state document, secrets included
) STRICT;

CREATE TABLE namespaces (
    port     INTEGER PRIMARY KEY,
    identity TEXT NOT NULL
) STRICT;
