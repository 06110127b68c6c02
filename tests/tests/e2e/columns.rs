//! P2 on columns: what a masked column holds is in no answer, whatever is asked.

use retrace_tests::{Gate, Postgres};

use crate::canaries::{Canary, assert_none_in, assert_none_written};

/// Numbers that no detector finds, so that the column masks alone can hide them.
const SECRETS: [&str; 4] = ["wren-70817", "teal-31442", "moss-90265", "fawn-55938"];

fn canaries() -> Vec<Canary> {
    let reversed = |text: &str| text.chars().rev().collect::<String>();
    let forms = SECRETS.iter().flat_map(|secret| {
        let (word, number) = secret.split_once('-').expect("a word and a number");
        [Canary::text(secret), Canary::text(word), Canary::text(number), Canary::text(&reversed(secret))]
    });
    forms.collect()
}

fn seed() -> String {
    let [one, two, three, four] = SECRETS;
    format!(
        "CREATE TABLE customers (id int PRIMARY KEY, name text, ssn text UNIQUE, city text);
         INSERT INTO customers VALUES (1, 'Ada', '{one}', 'Bath'), (2, 'Bea', '{two}', 'Bath'),
                                      (3, 'Cy', '{three}', 'Oslo'), (4, 'Dee', '{four}', 'Oslo');
         CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, amount int);
         INSERT INTO orders VALUES (10, 1, 5), (11, 2, 7), (12, 1, 9);
         CREATE VIEW everyone AS SELECT id, ssn AS number, name FROM customers;
         CREATE FUNCTION leak(int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM customers WHERE id = $1';"
    )
}

const MASK: &str = "[[mask]]\nname = \"ssn\"\ntargets = [\"shop\"]\ncolumns = [\"public.customers.ssn\"]\naction = \"redact\"\n";

/// What somebody may ask who wants to know.
const ATTEMPTS: [&str; 60] = [
    "SELECT ssn FROM customers",
    "SELECT * FROM customers",
    "TABLE customers",
    "SELECT c FROM customers c",
    "SELECT c.* FROM customers c",
    "SELECT (c).ssn FROM customers c",
    "SELECT row_to_json(c) FROM customers c",
    "SELECT to_jsonb(customers) ->> 'ssn' FROM customers",
    "SELECT upper(ssn), reverse(ssn), md5(ssn), ssn || 'x' FROM customers",
    "SELECT substr(ssn, 1, 4) FROM customers",
    "SELECT ssn::varchar(20) FROM customers",
    "SELECT ssn::int FROM customers",
    "SELECT 1 / (length(ssn) - 10) FROM customers",
    "SELECT encode(ssn::bytea, 'hex') FROM customers",
    "SELECT string_agg(ssn, ',') FROM customers",
    "SELECT min(ssn), max(ssn) FROM customers",
    "SELECT array_agg(ssn) FROM customers",
    "SELECT json_agg(c) FROM customers c",
    "SELECT number FROM everyone",
    "SELECT * FROM everyone",
    "SELECT leak(1)",
    "SELECT * FROM leak(1)",
    "SELECT g.v FROM (SELECT 'wren-' || n AS v FROM generate_series(70000, 71000) n) g JOIN customers c ON c.ssn = g.v",
    "SELECT id FROM customers WHERE ssn LIKE 'w%'",
    "SELECT id FROM customers WHERE ssn > 'n'",
    "SELECT id FROM customers WHERE ssn BETWEEN 'a' AND 'n'",
    "SELECT id FROM customers ORDER BY ssn",
    "SELECT ssn, id FROM customers ORDER BY 1",
    "SELECT ssn AS s FROM customers ORDER BY s",
    "SELECT count(*) FROM customers GROUP BY ssn",
    "SELECT DISTINCT ssn FROM customers",
    "SELECT rank() OVER (ORDER BY ssn), id FROM customers",
    "SELECT CASE WHEN ssn < 'n' THEN 1 ELSE 0 END FROM customers",
    "SELECT EXISTS (SELECT 1 FROM customers WHERE ssn ~ '^w')",
    "SELECT (SELECT ssn FROM customers WHERE id = 1)",
    "SELECT x FROM (SELECT ssn AS x FROM customers) t",
    "WITH t(x) AS (SELECT ssn FROM customers) SELECT x FROM t",
    "SELECT b.x FROM customers AS b(a, n, x, c)",
    "SELECT ssn FROM customers UNION SELECT 'a'",
    "SELECT a.ssn FROM customers a JOIN customers b USING (ssn)",
    "SELECT a.id FROM customers a NATURAL JOIN customers b",
    "SELECT l.x FROM customers c, LATERAL (SELECT c.ssn AS x) l",
    "SELECT * FROM unnest(ARRAY(SELECT ssn FROM customers))",
    "SELECT U&\"s\\0073n\" || '' FROM customers",
    "SELECT /* ssn */ \"ssn\" || $$$$ FROM public.customers",
    "SELECT id FROM customers WHERE (id, ssn) IN (SELECT 1, 'wren-' || 70817)",
    "SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename = 'customers'",
    "SELECT query_to_xml('SELECT ssn FROM customers', true, false, '')",
    "SELECT table_to_xml('customers', true, false, '')",
    "DO $$ BEGIN RAISE NOTICE '%', (SELECT reverse(ssn) FROM customers LIMIT 1); END $$",
    "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM customers'; SELECT f()",
    "CREATE TABLE taken AS SELECT ssn FROM customers",
    "CREATE VIEW v AS SELECT ssn AS x FROM customers",
    "INSERT INTO orders (id, customer) SELECT 100, 1 FROM customers WHERE ssn < 'n'",
    "UPDATE customers SET name = ssn",
    "UPDATE customers SET city = 'x' WHERE id = 1 RETURNING reverse(ssn)",
    "INSERT INTO customers (id, ssn) SELECT id + 10, ssn FROM customers",
    "COPY customers TO STDOUT",
    "COPY (SELECT reverse(ssn) FROM customers) TO STDOUT",
    "BEGIN; DECLARE c CURSOR FOR SELECT ssn || '' FROM customers; FETCH ALL FROM c; COMMIT",
];

fn gate() -> Gate {
    let database = Postgres::shared().database();
    database.seed(&seed());
    let mut gate = Gate::new(database);
    gate.add(MASK);
    gate.up();
    gate
}

#[test]
#[allow(clippy::print_stdout, reason = "a promise's counts are printed")]
fn p2_no_question_brings_out_what_a_masked_column_holds() {
    let gate = gate();
    let canaries = canaries();
    let mut refused = 0;
    for attempt in ATTEMPTS {
        let said = gate.psql(attempt);
        // What the attempt itself says comes back in errors and is no leak.
        for canary in &canaries {
            assert!(!canary.is_in(said.out().as_bytes()), "{attempt} brings out {}", said.out());
            let told = said.err().replace("wren-", "").replace("70817", "");
            assert!(!canary.is_in(told.as_bytes()), "{attempt} is told {}", said.err());
        }
        refused += u64::from(said.err().contains("retrace: "));
    }
    println!("{} attempts, {refused} refused, the others masked", ATTEMPTS.len());
    let rules = gate
        .number("SELECT count(DISTINCT decision_rule) AS n FROM events WHERE decision_rule LIKE 'columns.%'");
    assert!(refused >= 30 && rules >= 8, "{refused} refused by {rules} rules");
    let stored: Vec<Canary> = SECRETS[1..].iter().map(|secret| Canary::text(secret)).collect();
    let rows = gate.sql("SELECT response_text FROM events WHERE principal = 'dev'");
    assert_none_in("the evidence", format!("{rows:?}").as_bytes(), &stored);
    assert_none_written(&gate, &stored);
}

#[test]
fn what_is_not_masked_is_answered_as_it_is() {
    let gate = gate();
    for (asked, expect) in [
        ("SELECT id, name FROM customers WHERE city = 'Oslo' ORDER BY id", "3|Cy\n4|Dee\n"),
        ("SELECT id, name, ssn FROM customers WHERE id = 1", "1|Ada|[masked]\n"),
        ("SELECT name FROM customers WHERE ssn = 'teal-31442'", "Bea\n"),
        ("SELECT name FROM customers WHERE ssn IN ('teal-31442', 'none') AND city IS NOT NULL", "Bea\n"),
        (
            "SELECT c.name, o.amount FROM customers c JOIN orders o ON o.customer = c.id ORDER BY o.id",
            "Ada|5\nBea|7\nAda|9\n",
        ),
        ("SELECT sum(amount), upper('x') FROM orders", "21|X\n"),
        ("UPDATE customers SET ssn = 'new-1' WHERE id = 4", ""),
        ("COPY customers (id, ssn) TO STDOUT", "1\t[masked]\n2\t[masked]\n3\t[masked]\n4\t[masked]\n"),
        ("COPY orders TO STDOUT (FORMAT csv)", "10,1,5\n11,2,7\n12,1,9\n"),
        ("PREPARE q AS SELECT name FROM customers WHERE id = $1; EXECUTE q(2)", "Bea\n"),
    ] {
        let said = gate.psql(asked);
        assert_eq!(said.out(), expect, "{asked}: {}", said.err());
    }
    let seen = gate.sql("SELECT count(*) AS n FROM events WHERE event_type = 'catalogue_changed'");
    assert_eq!(seen[0]["n"], 1, "the catalogue by which columns are masked is on record once");
}

#[test]
fn a_definition_counts_for_the_next_statement() {
    let gate = gate();
    let script = "CREATE TABLE notes (id int, note text);
                  INSERT INTO notes VALUES (1, 'hello');
                  SELECT upper(note) FROM notes;";
    assert_eq!(gate.psql(script).expect_ok(), "HELLO\n", "a new table without masks is read at once");
}

#[test]
fn p6_a_mask_of_a_column_that_is_not_there_lets_nothing_run() {
    let database = Postgres::shared().database();
    database.seed(&seed());
    let mut gate = Gate::new(database);
    gate.add(&MASK.replace("customers.ssn", "customers.sssn"));
    gate.up();
    let said = gate.psql("SELECT 1").err();
    assert!(said.contains("its catalogue could not be read or lacks one of them"), "{said}");
    let log = String::from_utf8(gate.said()).expect("text");
    assert!(log.contains("customers.sssn"), "whoever runs the gate is told which: {log}");
}

#[test]
fn values_compared_with_masked_columns_are_few_an_hour() {
    let gate = gate();
    let script: String =
        (0..70).map(|number| format!("SELECT id FROM customers WHERE ssn = 'a{number}';\n")).collect();
    let said = gate.psql(&script);
    assert!(said.err().contains("too many values were compared"), "{}", said.err());
    let denied = gate.number("SELECT count(*) AS n FROM events WHERE event_type = 'command_refused'");
    assert_eq!(denied, 10, "sixty are allowed, and no more");
}
