-- +goose Up
-- What a process has counted it knows itself, and writes again; that a reset was asked for
-- stands here alone, in the row of those that are gone. So a crash of the server may not
-- empty the table.
ALTER TABLE counts SET LOGGED;

-- +goose Down
ALTER TABLE counts SET UNLOGGED;
