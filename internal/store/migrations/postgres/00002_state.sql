-- +goose Up

CREATE TABLE state (
    owner   text NOT NULL,
    name    text NOT NULL,
    version bigint NOT NULL,
    chunks  integer NOT NULL,
    updated bigint NOT NULL,
    PRIMARY KEY (owner, name)
);
COMMENT ON TABLE state IS 'what a gate knows and wants to know again after a restart: the resolver''s cache, say';
COMMENT ON COLUMN state.owner IS 'the gate';
COMMENT ON COLUMN state.name IS 'what it is';
COMMENT ON COLUMN state.version IS 'which rows of state_chunk it is, by a random number';
COMMENT ON COLUMN state.chunks IS 'how many these are';
COMMENT ON COLUMN state.updated IS 'microseconds since 1970';

CREATE TABLE state_chunk (
    owner   text NOT NULL,
    name    text NOT NULL,
    version bigint NOT NULL,
    seq     integer NOT NULL,
    data    bytea NOT NULL,
    PRIMARY KEY (owner, name, version, seq)
);
COMMENT ON TABLE state_chunk IS 'the pieces; those of another version than the one in state are of a save that is under way, or that did not come to its end';
COMMENT ON COLUMN state_chunk.seq IS 'from 0';
ALTER TABLE state_chunk ALTER COLUMN data SET STORAGE EXTERNAL;

-- +goose Down
DROP TABLE state_chunk;
DROP TABLE state;
