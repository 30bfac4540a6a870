-- Certificates that Ringway obtained, with their keys, and what it asked for them.

-- What stands between a leaf and a root is the same for all that one authority issued lately.
CREATE TABLE chains (
    id     INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE, -- SHA-256 of `der`
    der    BLOB NOT NULL         -- the intermediates one after the other; may be empty
) STRICT;

CREATE TABLE certificates (
    name       TEXT PRIMARY KEY, -- a host or *.domain
    network    INTEGER,          -- its port; null: the gateway itself
    directory  TEXT    NOT NULL, -- URL of the ACME directory
    on_demand  INTEGER NOT NULL, -- 1: nobody declared it, a client asked for it
    issuer     TEXT    NOT NULL, -- what the leaf says of who issued it
    not_before INTEGER NOT NULL,
    not_after  INTEGER NOT NULL,
    leaf       BLOB    NOT NULL,
    chain      INTEGER NOT NULL REFERENCES chains,
    key        BLOB    NOT NULL  -- PKCS#8: secret
) STRICT, WITHOUT ROWID;
CREATE INDEX certificates_by_chain ON certificates (chain);

CREATE TABLE acme_accounts (
    directory   TEXT PRIMARY KEY,
    credentials TEXT NOT NULL -- JSON with the account's key: secret
) STRICT, WITHOUT ROWID;

-- Names whose last order failed, so that a restart is no reason to ask again at once.
CREATE TABLE acme_failures (
    name     TEXT PRIMARY KEY,
    failures INTEGER NOT NULL, -- in a row
    retry_at INTEGER NOT NULL,
    reason   TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- Orders of late, which count against the budgets also after a restart.
CREATE TABLE acme_orders (
    id        INTEGER PRIMARY KEY,
    time      INTEGER NOT NULL,
    directory TEXT    NOT NULL,
    network   INTEGER
) STRICT;
CREATE INDEX acme_orders_by_time ON acme_orders (time);
