-- +goose Up
CREATE TABLE users (name TEXT COLLATE "C" PRIMARY KEY, password TEXT NOT NULL);
CREATE TABLE categories (
	name TEXT COLLATE "C" PRIMARY KEY,
	acts BIGINT NOT NULL DEFAULT 0 -- how many it has: counting a hundred thousand would make each page slow
);
CREATE TABLE acts (
	seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order of insertion
	id BIGINT NOT NULL UNIQUE,
	username TEXT NOT NULL,
	category TEXT COLLATE "C" NOT NULL REFERENCES categories (name) ON DELETE CASCADE,
	at BIGINT NOT NULL, -- the parsed timestamp, seconds since the epoch
	timestamp TEXT NOT NULL,
	caption TEXT NOT NULL,
	upvotes BIGINT NOT NULL DEFAULT 0,
	photo TEXT NOT NULL UNIQUE, -- key of the blob
	photo_type TEXT NOT NULL,
	photo_size BIGINT NOT NULL
);
CREATE INDEX acts_newest ON acts (category, at DESC, seq DESC);
CREATE TABLE alive (one INTEGER PRIMARY KEY CHECK (one = 1), at BIGINT NOT NULL);
INSERT INTO alive VALUES (1, 0);
-- Requests counted by each process; a crash of the server may forget them.
CREATE UNLOGGED TABLE counts (process TEXT PRIMARY KEY, n BIGINT NOT NULL);

-- +goose Down
DROP TABLE counts;
DROP TABLE alive;
DROP TABLE acts;
DROP TABLE categories;
DROP TABLE users;
