-- +goose Up

-- Whose room a report takes: the organizational domain that its message passed DMARC for. ''
-- where that is not sure, and for what is older than this column.
ALTER TABLE received_report ADD COLUMN reporter TEXT COLLATE "C" NOT NULL DEFAULT '';

-- How much there is in received_report of one reporter; no row for none.
CREATE TABLE received_reporter (
    reporter TEXT COLLATE "C" PRIMARY KEY,
    reports  BIGINT NOT NULL,
    bytes    BIGINT NOT NULL
);

-- Whose domain it is: the organizational domain, of whose domains a day has room for some.
ALTER TABLE counted_domain ADD COLUMN owner TEXT COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX counted_domain_owner ON counted_domain (day, owner);

-- +goose Down
DROP INDEX counted_domain_owner;
ALTER TABLE counted_domain DROP COLUMN owner;
DROP TABLE received_reporter;
ALTER TABLE received_report DROP COLUMN reporter;
