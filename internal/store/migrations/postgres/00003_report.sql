-- +goose Up

-- A day (UTC) of which something was counted for reports to others.
CREATE TABLE counted_day (
    day     BIGINT PRIMARY KEY,  -- its begin, microseconds since 1970
    domains BIGINT NOT NULL,     -- rows of counted_domain
    kept    BIGINT NOT NULL,     -- rows of counted
    lost    BIGINT NOT NULL      -- messages of domains that found no place
);

-- What was seen of the mail of a policy domain in a day, and what became of its report.
CREATE TABLE counted_domain (
    day      BIGINT NOT NULL,
    domain   TEXT COLLATE "C" NOT NULL,
    kept     BIGINT NOT NULL,    -- rows of counted
    overflow BIGINT NOT NULL,    -- messages beyond these
    due      BIGINT,             -- when the report goes out; claimed: when the lease ends; NULL: done
    token    BIGINT NOT NULL,    -- of the claim; 0: none
    attempts BIGINT NOT NULL,
    sent     TEXT NOT NULL,       -- addresses that have the report, one a line
    outcome  TEXT NOT NULL,       -- of the last attempt, for people
    PRIMARY KEY (day, domain)
);
CREATE INDEX counted_domain_due ON counted_domain (due) WHERE due IS NOT NULL;

-- Messages for which all but the time was the same.
CREATE TABLE counted (
    day      BIGINT NOT NULL,
    domain   TEXT COLLATE "C" NOT NULL,
    what     TEXT COLLATE "C" NOT NULL,  -- JSON
    last     BIGINT NOT NULL,    -- when the last one came
    messages BIGINT NOT NULL,
    PRIMARY KEY (day, domain, what)
);

-- Reports that others sent.
CREATE TABLE received_report (
    number    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key       TEXT COLLATE "C" NOT NULL UNIQUE,  -- who brought which report
    kind      TEXT NOT NULL,
    at        BIGINT NOT NULL,    -- when it came, microseconds since 1970
    ended     BIGINT NOT NULL,    -- the end of its period
    domain    TEXT COLLATE "C" NOT NULL,
    sender    TEXT NOT NULL,
    authentic BIGINT NOT NULL,    -- 1: the message that brought it passed DMARC
    data      BYTEA NOT NULL        -- JSON, gzip
);
CREATE INDEX received_report_at ON received_report (at);

-- How much there is in received_report.
CREATE TABLE received_total (
    authentic BIGINT PRIMARY KEY,
    reports   BIGINT NOT NULL,
    bytes     BIGINT NOT NULL
);
INSERT INTO received_total (authentic, reports, bytes) VALUES (0, 0, 0), (1, 0, 0);

-- +goose Down
DROP TABLE received_total;
DROP TABLE received_report;
DROP TABLE counted;
DROP TABLE counted_domain;
DROP TABLE counted_day;
