CREATE SCHEMA app;
COMMENT ON SCHEMA app IS 'a shop';
CREATE TYPE app.mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE app.address AS (street text, city text);
CREATE TYPE app.span AS RANGE (subtype = float8);
CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
CREATE SEQUENCE app.numbers INCREMENT 5 MINVALUE 10 CACHE 3;
CREATE COLLATION app.posix FROM "C";
CREATE TABLE app.customers (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    mood app.mood DEFAULT 'ok',
    home app.address,
    tags text[] DEFAULT '{}',
    profile jsonb,
    born date,
    CONSTRAINT named CHECK (name <> '')
);
COMMENT ON TABLE app.customers IS 'who buys';
COMMENT ON COLUMN app.customers.tags IS 'what we think of them';
CREATE TABLE app.orders (
    id bigint NOT NULL,
    at timestamptz NOT NULL,
    customer int REFERENCES app.customers ON DELETE CASCADE,
    amount numeric(12, 2),
    pieces app.positive,
    doubled numeric GENERATED ALWAYS AS (amount * 2) STORED,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE app.orders_2025 PARTITION OF app.orders FOR VALUES FROM ('2025-01-01Z') TO ('2026-01-01Z');
CREATE TABLE app.orders_2026 PARTITION OF app.orders FOR VALUES FROM ('2026-01-01Z') TO ('2027-01-01Z');
CREATE INDEX by_customer ON app.orders (customer) INCLUDE (amount);
CREATE UNIQUE INDEX by_name ON app.customers (lower(name)) WHERE mood <> 'sad';
CREATE STATISTICS app.together (dependencies) ON name, born FROM app.customers;
CREATE FUNCTION app.total(who int) RETURNS numeric LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(amount), 0) FROM app.orders WHERE customer = who
$$;
CREATE PROCEDURE app.cheer() LANGUAGE plpgsql AS $$ BEGIN
    RAISE NOTICE 'hurrah';
    UPDATE app.customers SET mood = 'happy';
END $$;
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    NEW.tags := NEW.tags || 'touched'::text;
    RETURN NEW;
END $$;
CREATE TRIGGER touched BEFORE UPDATE ON app.customers FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE AGGREGATE app.product (numeric) (SFUNC = numeric_mul, STYPE = numeric, INITCOND = 1);
CREATE OPERATOR app.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq);
CREATE VIEW app.open_orders AS SELECT o.id, c.name, o.amount FROM app.orders o JOIN app.customers c ON c.id = o.customer;
CREATE MATERIALIZED VIEW app.totals AS SELECT id, app.total(id) AS total FROM app.customers WITH NO DATA;
CREATE RULE quiet AS ON DELETE TO app.customers DO ALSO NOTIFY gone;
ALTER TABLE app.customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_of_them ON app.customers USING (true);
GRANT SELECT ON app.customers TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO PUBLIC;
CREATE PUBLICATION changes FOR TABLE app.customers;
INSERT INTO app.customers (name, mood, home, tags, profile, born)
    SELECT 'customer ' || n, (ARRAY['sad', 'ok', 'happy'])[n % 3 + 1]::app.mood, ROW('street ' || n, E'two\nlines')::app.address,
           ARRAY['a,b', NULL, '"' || n], jsonb_build_object('n', n, 'deep', jsonb_build_array(n, null)), date '2000-01-01' + n
    FROM generate_series(1, 200) n;
INSERT INTO app.orders (id, at, customer, amount, pieces)
    SELECT n, timestamptz '2025-06-01Z' + n * interval '8 hours', n % 200 + 1, n / 3.0, n FROM generate_series(1, 1500) n;
REFRESH MATERIALIZED VIEW app.totals;
CALL app.cheer();
