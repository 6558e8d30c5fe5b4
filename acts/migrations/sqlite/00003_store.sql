-- +goose Up
-- Who this database is: its photos are below this name, so that what others keep in the
-- same folder or bucket is never taken for left behind.
CREATE TABLE store (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL) STRICT;
INSERT INTO store VALUES (1, lower(hex(randomblob(16))));

-- +goose Down
DROP TABLE store;
