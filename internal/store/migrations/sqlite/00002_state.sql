-- +goose Up

-- What a gate knows and wants to know again after a restart: the resolver's cache, say.
CREATE TABLE state (
    owner   TEXT NOT NULL,     -- the gate
    name    TEXT NOT NULL,     -- what it is
    version INTEGER NOT NULL,  -- which rows of state_chunk it is, by a random number
    chunks  INTEGER NOT NULL,  -- how many these are
    updated INTEGER NOT NULL,  -- microseconds since 1970
    PRIMARY KEY (owner, name)
);

-- The pieces. Those of another version than the one in state are of a save that is under
-- way, or that did not come to its end.
CREATE TABLE state_chunk (
    owner   TEXT NOT NULL,
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,
    seq     INTEGER NOT NULL,  -- from 0
    data    BLOB NOT NULL,
    PRIMARY KEY (owner, name, version, seq)
);

-- +goose Down
DROP TABLE state_chunk;
DROP TABLE state;
