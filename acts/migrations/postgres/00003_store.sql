-- +goose Up
-- Who this database is: its photos are below this name, so that what others keep in the
-- same folder or bucket is never taken for left behind.
CREATE TABLE store (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL);
INSERT INTO store VALUES (1, replace(gen_random_uuid()::text, '-', ''));
-- When a process was last heard of: what one that is gone has counted is put together.
-- Those that have a row may run.
ALTER TABLE counts ADD COLUMN at BIGINT NOT NULL DEFAULT CAST(extract(epoch FROM now()) AS BIGINT);

-- +goose Down
ALTER TABLE counts DROP COLUMN at;
DROP TABLE store;
