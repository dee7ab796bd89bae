-- +goose Up

-- What was seen of the mail of a policy domain in a day, for reports to it.
CREATE TABLE counted_domain (
    day      INTEGER NOT NULL,  -- its begin, microseconds since 1970
    domain   TEXT NOT NULL,
    kept     INTEGER NOT NULL,  -- how many rows of counted there are; of domain '': how many domains
    overflow INTEGER NOT NULL,  -- messages beyond these
    PRIMARY KEY (day, domain)
);

-- Messages for which all but the time was the same.
CREATE TABLE counted (
    day      INTEGER NOT NULL,
    domain   TEXT NOT NULL,
    what     TEXT NOT NULL,  -- JSON
    messages INTEGER NOT NULL,
    PRIMARY KEY (day, domain, what)
);

-- +goose Down
DROP TABLE counted;
DROP TABLE counted_domain;
