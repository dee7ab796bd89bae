-- +goose Up

-- What was seen of the mail of a policy domain in a day, for reports to it.
CREATE TABLE counted_domain (
    day      BIGINT NOT NULL,  -- its begin, microseconds since 1970
    domain   TEXT COLLATE "C" NOT NULL,
    kept     BIGINT NOT NULL,  -- how many rows of counted there are; of domain '': how many domains
    overflow BIGINT NOT NULL,  -- messages beyond these
    PRIMARY KEY (day, domain)
);

-- Messages for which all but the time was the same.
CREATE TABLE counted (
    day      BIGINT NOT NULL,
    domain   TEXT COLLATE "C" NOT NULL,
    what     TEXT COLLATE "C" NOT NULL,  -- JSON
    messages BIGINT NOT NULL,
    PRIMARY KEY (day, domain, what)
);

-- +goose Down
DROP TABLE counted;
DROP TABLE counted_domain;
