-- +goose Up
CREATE TABLE users (name TEXT PRIMARY KEY, password TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE categories (
	name TEXT PRIMARY KEY,
	acts INTEGER NOT NULL DEFAULT 0 -- how many it has: counting a hundred thousand would make each page slow
) STRICT, WITHOUT ROWID;
CREATE TABLE acts (
	seq INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of insertion
	id INTEGER NOT NULL UNIQUE,
	username TEXT NOT NULL,
	category TEXT NOT NULL REFERENCES categories (name) ON DELETE CASCADE,
	at INTEGER NOT NULL, -- the parsed timestamp, seconds since the epoch
	timestamp TEXT NOT NULL,
	caption TEXT NOT NULL,
	upvotes INTEGER NOT NULL DEFAULT 0,
	photo TEXT NOT NULL UNIQUE, -- key of the blob
	photo_type TEXT NOT NULL,
	photo_size INTEGER NOT NULL
) STRICT;
CREATE INDEX acts_newest ON acts (category, at DESC, seq DESC);
CREATE TABLE alive (one INTEGER PRIMARY KEY CHECK (one = 1), at INTEGER NOT NULL) STRICT;
INSERT INTO alive VALUES (1, 0);

-- +goose Down
DROP TABLE alive;
DROP TABLE acts;
DROP TABLE categories;
DROP TABLE users;
