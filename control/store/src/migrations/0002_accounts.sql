-- The accounts. What is in a total and not in `rowed` yet is open: it goes into the next row.

-- A network is who it is by its name and key: a port that gets another key begins a new account.
CREATE TABLE networks (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL, -- host, network-PORT or netns:NAME
    public_key BLOB NOT NULL, -- empty: it has none
    UNIQUE (name, public_key)
) STRICT;
CREATE INDEX networks_by_key ON networks (public_key);

CREATE TABLE peers (
    id             INTEGER PRIMARY KEY,
    network        INTEGER NOT NULL REFERENCES networks,
    public_key     BLOB    NOT NULL,
    first_seen     INTEGER NOT NULL,
    changed        INTEGER NOT NULL, -- time of the last sample that changed anything here
    epoch          INTEGER NOT NULL, -- epoch and raw counters: 64 bits without a sign
    raw_rx         INTEGER NOT NULL,
    raw_tx         INTEGER NOT NULL,
    total_rx       INTEGER NOT NULL,
    total_tx       INTEGER NOT NULL,
    rowed_rx       INTEGER NOT NULL DEFAULT 0,
    rowed_tx       INTEGER NOT NULL DEFAULT 0,
    last_handshake INTEGER,
    endpoint       TEXT,
    UNIQUE (network, public_key)
) STRICT;
CREATE INDEX peers_by_key ON peers (public_key);
CREATE INDEX peers_open ON peers (id) WHERE total_rx <> rowed_rx OR total_tx <> rowed_tx;

-- A row tells what was counted after the row before it and up to its time. By time for who wants
-- everything that is new; by peer, with all that is asked for, for who wants a network or a peer.
CREATE TABLE peer_rows (
    time   INTEGER NOT NULL,
    peer   INTEGER NOT NULL REFERENCES peers,
    rx     INTEGER NOT NULL,
    tx     INTEGER NOT NULL,
    raw_rx INTEGER NOT NULL,
    raw_tx INTEGER NOT NULL,
    PRIMARY KEY (time, peer)
) STRICT, WITHOUT ROWID;
CREATE INDEX peer_rows_by_peer ON peer_rows (peer, time, rx, tx);

CREATE TABLE relays (
    id                INTEGER PRIMARY KEY,
    network           INTEGER NOT NULL REFERENCES networks,
    route             TEXT    NOT NULL,
    client            BLOB    NOT NULL, -- 4 or 16 bytes; empty: all the others
    peer              BLOB    NOT NULL, -- public key; empty: none
    total_in          INTEGER NOT NULL,
    total_out         INTEGER NOT NULL,
    total_connections INTEGER NOT NULL,
    rowed_in          INTEGER NOT NULL DEFAULT 0,
    rowed_out         INTEGER NOT NULL DEFAULT 0,
    rowed_connections INTEGER NOT NULL DEFAULT 0,
    UNIQUE (network, route, client, peer)
) STRICT;
CREATE INDEX relays_open ON relays (id)
    WHERE total_in <> rowed_in OR total_out <> rowed_out
        OR total_connections <> rowed_connections;

CREATE TABLE relay_rows (
    time        INTEGER NOT NULL,
    relay       INTEGER NOT NULL REFERENCES relays,
    bytes_in    INTEGER NOT NULL,
    bytes_out   INTEGER NOT NULL,
    connections INTEGER NOT NULL,
    PRIMARY KEY (time, relay)
) STRICT, WITHOUT ROWID;
CREATE INDEX relay_rows_by_relay
    ON relay_rows (relay, time, bytes_in, bytes_out, connections);

-- One row. `sampled` is the time of the last sample that brought anything, `cut` that of the
-- youngest rows. Both only grow; open bytes are younger than `cut`.
CREATE TABLE clock (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    sampled INTEGER NOT NULL,
    cut     INTEGER NOT NULL
) STRICT;
INSERT INTO clock VALUES (1, 0, 0);

-- How far rows have been merged: up to `done`, they are as coarse as the level says.
CREATE TABLE merges (
    level INTEGER PRIMARY KEY,
    done  INTEGER NOT NULL
) STRICT;

-- Answers about traffic that nobody continued yet: rows are not merged across their ends.
CREATE TABLE answers (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    since  INTEGER NOT NULL,
    stop   INTEGER NOT NULL,
    proven INTEGER NOT NULL -- 1: the question itself continued an answer
) STRICT;
CREATE INDEX answers_by_stop ON answers (stop);
