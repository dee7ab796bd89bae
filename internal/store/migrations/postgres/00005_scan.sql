-- +goose Up

CREATE TABLE scan_job (
    id           bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name         text NOT NULL UNIQUE,
    input_size   bigint NOT NULL,
    input_prefix text NOT NULL,
    mode         text NOT NULL,
    shard        integer NOT NULL,
    created      bigint NOT NULL
);
COMMENT ON TABLE scan_job IS 'a scan that many machines share';
COMMENT ON COLUMN scan_job.input_size IS 'octets, -1 for a pipe';
COMMENT ON COLUMN scan_job.input_prefix IS 'SHA-256 of its beginning';
COMMENT ON COLUMN scan_job.mode IS 'the options that decide what a document says';
COMMENT ON COLUMN scan_job.shard IS 'lines in each shard';
COMMENT ON COLUMN scan_job.created IS 'microseconds since 1970, as all times here';

CREATE TABLE scan_shard (
    job      bigint NOT NULL REFERENCES scan_job (id) ON DELETE CASCADE,
    number   integer NOT NULL,
    first    bigint NOT NULL,
    lines    integer NOT NULL,
    texts    bytea[] NOT NULL,
    long     bigint[] NOT NULL,
    firsts   bigint[] NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    owner    text NOT NULL DEFAULT '',
    leased   bigint NOT NULL DEFAULT 0,
    finished bigint,
    unknown  integer NOT NULL DEFAULT 0,
    ours     integer NOT NULL DEFAULT 0,
    PRIMARY KEY (job, number)
);
COMMENT ON TABLE scan_shard IS 'some lines of a job, which one worker does';
COMMENT ON COLUMN scan_shard.number IS 'from 0';
COMMENT ON COLUMN scan_shard.first IS 'the number of its first line in the input, from 1';
COMMENT ON COLUMN scan_shard.texts IS 'what stands in the lines: any octets';
COMMENT ON COLUMN scan_shard.long IS 'how many octets a line has that is too long, else 0';
COMMENT ON COLUMN scan_shard.firsts IS 'the line where the domain stood before, else 0';
COMMENT ON COLUMN scan_shard.attempts IS 'how often it was leased; a worker whose number is another has lost it';
COMMENT ON COLUMN scan_shard.owner IS 'who has leased it last';
COMMENT ON COLUMN scan_shard.leased IS 'until when';
COMMENT ON COLUMN scan_shard.finished IS 'when its documents were stored; NULL until then';
COMMENT ON COLUMN scan_shard.unknown IS 'lines with something unknown';
COMMENT ON COLUMN scan_shard.ours IS 'lines that say little, for the worker''s own side failed';

-- What Take looks for.
CREATE INDEX scan_shard_open ON scan_shard (job, attempts, number) WHERE finished IS NULL;

CREATE TABLE scan_document (
    job  bigint NOT NULL REFERENCES scan_job (id) ON DELETE CASCADE,
    line bigint NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (job, line)
);
COMMENT ON TABLE scan_document IS 'what was found: exactly one for each line of a shard that is finished';
COMMENT ON COLUMN scan_document.text IS 'JSON (schema mxward.check/1), as it was written: jsonb would order its keys anew';

-- +goose Down
DROP TABLE scan_document;
DROP TABLE scan_shard;
DROP TABLE scan_job;
