-- +goose Up

-- Messages that wait for delivery. A message lives until its last job is gone.
CREATE TABLE message (
    number INTEGER PRIMARY KEY,  -- in the order of acceptance; jobs refer to it
    id     TEXT NOT NULL UNIQUE, -- the name that people and logs use
    head   TEXT NOT NULL,        -- envelope and times, JSON (see encode.go)
    chunks INTEGER NOT NULL,     -- how many rows of chunk are the beginning of the body
    tail   BLOB NOT NULL         -- the rest of the body; the last column, so that the others are read without it
);

-- One message for one destination: what has a state.
CREATE TABLE job (
    job         INTEGER PRIMARY KEY, -- the message's number * 65536 + the place among its jobs
    destination TEXT NOT NULL,       -- what follows the recipients' @
    state       TEXT NOT NULL,       -- ready, leased, held
    due         INTEGER,             -- ready: when to try; leased: when the lease ends; held: NULL. Microseconds since 1970
    token       INTEGER NOT NULL,    -- of the lease; 0 for none
    attempts    INTEGER NOT NULL,    -- begun so far
    recipients  TEXT NOT NULL,       -- those not yet delivered, JSON (see encode.go)
    last        TEXT NOT NULL        -- their outcomes in the last attempt, JSON; '' before it
);

-- What is due, the longest due first; the destination is here to be left out.
CREATE INDEX job_due ON job (due, destination);

-- What waits for one destination.
CREATE INDEX job_destination ON job (destination, due);

-- Bodies of large messages, but for their tails. Rows that no message refers to belong
-- to a message that is still being received, or was never accepted.
CREATE TABLE chunk (
    message TEXT NOT NULL,     -- the message's id
    seq     INTEGER NOT NULL,  -- from 0
    stored  INTEGER NOT NULL,  -- when, microseconds since 1970
    data    BLOB NOT NULL,
    PRIMARY KEY (message, seq)
);

-- Knocks of clients at the MX hosts.
CREATE TABLE contact (
    client  BLOB NOT NULL,     -- the address, 16 octets, IPv4 mapped into IPv6
    at      INTEGER NOT NULL,  -- microseconds since 1970
    host    TEXT NOT NULL,     -- the MX host that was reached
    stage   TEXT NOT NULL,     -- the furthest stage
    session TEXT NOT NULL,     -- the connection's id; '' for a refused SYN
    domain  TEXT NOT NULL,     -- of the recipient, '' before RCPT
    sender  TEXT NOT NULL,     -- of the envelope
    helo    TEXT NOT NULL
);

CREATE INDEX contact_client ON contact (client, at);

CREATE INDEX contact_at ON contact (at);

-- +goose Down
DROP TABLE contact;
DROP TABLE chunk;
DROP TABLE job;
DROP TABLE message;
