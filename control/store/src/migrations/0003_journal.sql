-- Who did what, and what happened.

CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    time       INTEGER NOT NULL,
    actor      TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    source     TEXT    NOT NULL,
    action     TEXT    NOT NULL,
    generation INTEGER,
    result     TEXT    NOT NULL,
    detail     TEXT    NOT NULL
) STRICT;

CREATE TABLE events (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    time INTEGER NOT NULL,
    kind TEXT    NOT NULL,
    json TEXT    NOT NULL
) STRICT;
