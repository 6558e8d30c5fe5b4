-- +goose Up
-- As wide as acts_newest: a name that would fit into the primary key, and then into no row
-- of that index, is refused when its category is made and not at each upload.
CREATE INDEX categories_fit ON categories (name, (CAST(0 AS BIGINT)), (CAST(0 AS BIGINT)));

-- +goose Down
DROP INDEX categories_fit;
