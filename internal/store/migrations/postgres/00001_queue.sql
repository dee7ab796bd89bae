-- +goose Up

CREATE SEQUENCE message_number;

CREATE TABLE message (
    number   bigint PRIMARY KEY,
    id       text NOT NULL UNIQUE,
    received bigint NOT NULL,
    head     text NOT NULL,
    chunks   integer NOT NULL,
    jobs     integer NOT NULL,
    tail     bytea NOT NULL
);
COMMENT ON TABLE message IS 'messages that wait for delivery; a message lives until its last job is gone';
COMMENT ON COLUMN message.number IS 'from the sequence message_number; jobs refer to it';
COMMENT ON COLUMN message.id IS 'the name that people and logs use';
COMMENT ON COLUMN message.received IS 'when it was accepted, microseconds since 1970';
COMMENT ON COLUMN message.head IS 'envelope and times, JSON';
COMMENT ON COLUMN message.chunks IS 'how many rows of chunk are the beginning of the body';
COMMENT ON COLUMN message.jobs IS 'how many jobs it had at first';
COMMENT ON COLUMN message.tail IS 'the rest of the body';
-- Mail is not worth the time of the server's slow compression.
ALTER TABLE message ALTER COLUMN tail SET STORAGE EXTERNAL;

CREATE TABLE job (
    job         bigint PRIMARY KEY,
    destination text NOT NULL,
    state       text NOT NULL,
    due         bigint,
    token       bigint NOT NULL,
    attempts    integer NOT NULL,
    recipients  text NOT NULL,
    last        text NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE job IS 'one message for one destination: what has a state';
COMMENT ON COLUMN job.job IS 'the number of the message * 65536 + the place among its jobs';
COMMENT ON COLUMN job.destination IS 'what follows the @ of the recipients';
COMMENT ON COLUMN job.state IS 'ready, leased, held';
COMMENT ON COLUMN job.due IS 'ready: when to try; leased: when the lease ends; held: NULL. Microseconds since 1970';
COMMENT ON COLUMN job.token IS 'of the lease; 0 for none';
COMMENT ON COLUMN job.attempts IS 'begun so far';
COMMENT ON COLUMN job.recipients IS 'those not yet delivered, JSON';
COMMENT ON COLUMN job.last IS 'their outcomes in the last attempt, JSON; empty before it';

CREATE INDEX job_due ON job (due, job);
CREATE INDEX job_destination ON job (destination, due);

CREATE TABLE chunk (
    message text NOT NULL,
    seq     integer NOT NULL,
    stored  bigint NOT NULL,
    data    bytea NOT NULL,
    PRIMARY KEY (message, seq)
);
COMMENT ON TABLE chunk IS 'bodies of large messages, but for their tails; rows that no message refers to belong to a message that is still being received, or was never accepted';
COMMENT ON COLUMN chunk.message IS 'the id of the message';
COMMENT ON COLUMN chunk.seq IS 'from 0';
COMMENT ON COLUMN chunk.stored IS 'when, microseconds since 1970';
COMMENT ON COLUMN chunk.data IS 'all chunks of a body have the same size';
ALTER TABLE chunk ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE contact (
    client  inet NOT NULL,
    at      bigint NOT NULL,
    host    text NOT NULL,
    stage   text NOT NULL,
    session text NOT NULL,
    domain  text NOT NULL,
    sender  text NOT NULL,
    helo    text NOT NULL
);
COMMENT ON TABLE contact IS 'knocks of clients at the MX hosts';
COMMENT ON COLUMN contact.client IS 'the address';
COMMENT ON COLUMN contact.at IS 'microseconds since 1970';
COMMENT ON COLUMN contact.host IS 'the MX host that was reached';
COMMENT ON COLUMN contact.stage IS 'the furthest stage';
COMMENT ON COLUMN contact.session IS 'the id of the connection; empty for a refused SYN';
COMMENT ON COLUMN contact.domain IS 'of the recipient; empty before RCPT';
COMMENT ON COLUMN contact.sender IS 'of the envelope';
COMMENT ON COLUMN contact.helo IS 'what the client called itself';

CREATE INDEX contact_client ON contact (client, at);
CREATE INDEX contact_at ON contact (at);

-- +goose Down
DROP TABLE contact;
DROP TABLE chunk;
DROP TABLE job;
DROP TABLE message;
DROP SEQUENCE message_number;
