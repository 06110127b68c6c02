-- What the target has when it is made: a role for the gate, and customers with something to hide.
\set password `cat /secrets/shop.password`
CREATE ROLE shop LOGIN PASSWORD :'password';
CREATE DATABASE shop OWNER shop;
\connect shop
SET ROLE shop;
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email text, card text, ssn text);
INSERT INTO customers VALUES
    (1, 'Ada Meyer', 'ada.meyer@example.com', '4111111111111111', '078-05-1120'),
    (2, 'Grace Okafor', 'grace.okafor@example.com', '5555555555554444', '078-05-1121'),
    (3, 'Edsger Silva', 'edsger.silva@example.com', '378282246310005', '078-05-1122'),
    (4, 'Radia Tanaka', 'radia.tanaka@example.com', '6011111111111117', '078-05-1123');
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, amount numeric);
INSERT INTO orders SELECT n, n % 4 + 1, n * 1.5 FROM generate_series(1, 20) n;
