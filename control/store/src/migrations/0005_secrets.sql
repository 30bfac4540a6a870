-- Secrets that outlive a restart, such as what the marks in clients' cookies are made with.
CREATE TABLE secrets (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL -- 32 random bytes: secret
) STRICT, WITHOUT ROWID;
