-- +goose Up
-- Another number after each change of what its list shows, so that a page that has been
-- made once is known to be right still.
ALTER TABLE categories ADD COLUMN version INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE categories DROP COLUMN version;
