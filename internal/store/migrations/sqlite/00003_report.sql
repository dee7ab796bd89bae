-- +goose Up

-- A day (UTC) of which something was counted for reports to others.
CREATE TABLE counted_day (
    day     INTEGER PRIMARY KEY,  -- its begin, microseconds since 1970
    domains INTEGER NOT NULL,     -- rows of counted_domain
    kept    INTEGER NOT NULL,     -- rows of counted
    lost    INTEGER NOT NULL      -- messages of domains that found no place
);

-- What was seen of the mail of a policy domain in a day, and what became of its report.
CREATE TABLE counted_domain (
    day      INTEGER NOT NULL,
    domain   TEXT NOT NULL,
    kept     INTEGER NOT NULL,    -- rows of counted
    overflow INTEGER NOT NULL,    -- messages beyond these
    due      INTEGER,             -- when the report goes out; claimed: when the lease ends; NULL: done
    token    INTEGER NOT NULL,    -- of the claim; 0: none
    attempts INTEGER NOT NULL,
    sent     TEXT NOT NULL,       -- addresses that have the report, one a line
    outcome  TEXT NOT NULL,       -- of the last attempt, for people
    PRIMARY KEY (day, domain)
);
CREATE INDEX counted_domain_due ON counted_domain (due) WHERE due IS NOT NULL;

-- Messages for which all but the time was the same.
CREATE TABLE counted (
    day      INTEGER NOT NULL,
    domain   TEXT NOT NULL,
    what     TEXT NOT NULL,  -- JSON
    last     INTEGER NOT NULL,    -- when the last one came
    messages INTEGER NOT NULL,
    PRIMARY KEY (day, domain, what)
);

-- Reports that others sent.
CREATE TABLE received_report (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    key       TEXT NOT NULL UNIQUE,  -- who brought which report
    kind      TEXT NOT NULL,
    at        INTEGER NOT NULL,    -- when it came, microseconds since 1970
    ended     INTEGER NOT NULL,    -- the end of its period
    domain    TEXT NOT NULL,
    sender    TEXT NOT NULL,
    authentic INTEGER NOT NULL,    -- 1: the message that brought it passed DMARC
    data      BLOB NOT NULL        -- JSON, gzip
);
CREATE INDEX received_report_at ON received_report (at);

-- How much there is in received_report.
CREATE TABLE received_total (
    authentic INTEGER PRIMARY KEY,
    reports   INTEGER NOT NULL,
    bytes     INTEGER NOT NULL
);
INSERT INTO received_total (authentic, reports, bytes) VALUES (0, 0, 0), (1, 0, 0);

-- +goose Down
DROP TABLE received_total;
DROP TABLE received_report;
DROP TABLE counted;
DROP TABLE counted_domain;
DROP TABLE counted_day;
