//! Commands that wait for people: in psql, until somebody else decides, wherever that is.

use std::fs;
use std::process::{Child, Command, Stdio};

use retrace_tests::{Database, Gate, Kafka, Outcome, Postgres, Process, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::PATIENCE;

const RULES: &str = r#"
@id("deletions") @hold("deletions are reviewed") @reviewers("group dba") @wait("50s")
forbid(principal, action == Action::"write", resource)
when { ["DELETE", "TRUNCATE"].contains(context.statement.verb) };
"#;

const DELETE: &str = "DELETE FROM orders WHERE id = 1";

/// A gate with a shop where deletions are reviewed by Bob and by Ann, whose agent `bot` is.
struct Shop {
    gate: Gate,
    database: Database<'static>,
    tokens: [(&'static str, String); 3],
}

impl Shop {
    fn new(rules: &str) -> Self {
        let database = Postgres::shared().database();
        database.seed(
            "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 9)",
        );
        let gate = Gate::new(database);
        let tokens = ["ann", "bob", "bot"].map(|name| {
            let targets: &[&str] = if name == "bot" { &["*"] } else { &[] };
            (name, gate.add_principal(name, targets, "none"))
        });
        gate.edit(|config| {
            for principal in config["principal"].as_array_mut().expect("a list") {
                let principal = principal.as_table_mut().expect("a table");
                match principal["name"].as_str() {
                    Some("bot") => {
                        principal.insert("on_behalf_of".to_owned(), "ann".into());
                    }
                    Some("ann" | "bob") => {
                        principal.insert("kind".to_owned(), "human".into());
                        principal.insert("groups".to_owned(), vec!["dba"].into());
                    }
                    _ => {}
                }
            }
            let file = toml::Table::from_iter([("file".to_owned(), "policy.cedar".into())]);
            config.insert("policy".to_owned(), file.into());
        });
        let shop = Self { gate, database, tokens };
        shop.rules(rules);
        shop
    }

    fn rules(&self, rules: &str) {
        fs::write(self.gate.dir().join("policy.cedar"), rules).expect("the folder is ours");
    }

    fn token(&self, name: &str) -> &str {
        &self.tokens.iter().find(|(known, _)| *known == name).expect("a principal").1
    }

    fn retrace(&self, name: &str, arguments: &[&str]) -> Outcome {
        self.gate.retrace_as(Some(self.token(name)), arguments)
    }

    /// A psql of the agent's, which runs this.
    fn psql(&self, script: &str) -> Command {
        let mut command = self.gate.psql_command_as("bot", self.token("bot"));
        command.args(["-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-c", script]);
        command
    }

    fn asks(&self, script: &str) -> Waiting {
        Waiting::start(self.psql(script))
    }

    fn run(&self, script: &str) -> Outcome {
        retrace_tests::run(self.psql(script), b"", PATIENCE)
    }

    /// The reviews that Bob may decide about.
    fn reviews(&self, more: &[&str]) -> Vec<Value> {
        let arguments = [&["reviews", "--format", "json"], more].concat();
        let said = self.retrace("bob", &arguments).expect_ok();
        serde_json::from_str::<Value>(&said).expect("JSON").as_array().expect("a list").clone()
    }

    /// The id of the one review that is open, once there is one.
    fn open_review(&self) -> String {
        wait_for("a review is open", PATIENCE, || {
            let reviews = self.reviews(&[]);
            let open: Vec<_> = reviews.iter().filter(|review| review["state"] == "open").collect();
            assert!(open.len() < 2, "{open:?}");
            open.first().map(|review| review["review_id"].as_str().expect("an id").to_owned())
        })
    }

    fn orders(&self) -> u64 {
        self.database.number("SELECT count(*) FROM orders")
    }

    fn count(&self, event_type: &str) -> u64 {
        self.gate.number(&format!("SELECT count(*) AS n FROM events WHERE event_type = '{event_type}'"))
    }
}

/// A client whose command waits.
struct Waiting(Child);

impl Waiting {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().expect("psql starts"))
    }

    fn interrupt(&self) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).expect("a process");
        kill_process(pid, Signal::INT).expect("it runs");
    }

    /// What it said, once it has ended.
    fn end(mut self) -> (bool, String, String) {
        wait_for("psql has ended", PATIENCE, || self.0.try_wait().expect("it is ours"));
        let output = self.0.wait_with_output().expect("it has ended");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }
}

#[test]
fn a_command_waits_in_psql_until_somebody_else_approves_it() {
    let mut shop = Shop::new(RULES);
    shop.gate.up();
    let waiting = shop.asks(DELETE);
    let review = shop.open_review();
    let shown = shop.retrace("bob", &["reviews", &review]).expect_ok();
    for said in [DELETE, "by          bot, on behalf of ann, at shop", "deletions are reviewed", "group dba"]
    {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    // Whose it is decides nothing, by no account; neither does who is no reviewer, who is told of no review.
    for (who, what) in [("bot", "this is your own command"), ("ann", "this is your own command")] {
        let said = shop.retrace(who, &["approve", &review]).expect_failure();
        assert!(said.contains(what), "{said}");
    }
    let said = shop.gate.retrace(&["approve", &review, "--reason", "I run this gate"]).expect_failure();
    assert!(said.contains("you are not among those who may decide"), "{said}");
    assert_eq!(shop.orders(), 9);

    let approved = shop.retrace("bob", &["approve", &review[..13], "--reason", "as agreed"]);
    let _ = approved.expect_ok();
    assert!(approved.err().contains(DELETE), "what is decided is shown: {}", approved.err());
    let (ok, out, err) = waiting.end();
    assert!(ok && out.trim() == "DELETE 1", "{out} {err}");
    assert!(
        err.contains(&format!("NOTICE:  01000: retrace: held for review {review}: deletions are reviewed")),
        "{err}"
    );
    assert_eq!(shop.orders(), 8);

    // It was granted for one run, so the same is held again.
    let waiting = shop.asks(DELETE);
    let again = shop.open_review();
    assert_ne!(again, review);
    waiting.interrupt();
    let (ok, _, err) = waiting.end();
    assert!(!ok && err.contains("57014") && err.contains("cancelled while it waited"), "{err}");
    wait_for("the review is withdrawn", PATIENCE, || shop.reviews(&[]).is_empty().then_some(()));
    let said = shop.retrace("bob", &["approve", &again]).expect_failure();
    assert!(said.contains("this review is withdrawn"), "{said}");

    for (event_type, count) in [
        ("review_requested", 2),
        ("review_decided", 1),
        ("grant_used", 1),
        ("review_applied", 1),
        ("review_withdrawn", 1),
    ] {
        assert_eq!(shop.count(event_type), count, "{event_type}");
    }
    let ran = "SELECT count(*) AS n FROM events WHERE event_type = 'command_received' AND decision = 'hold'";
    assert_eq!(shop.gate.number(ran), 2);
    let read = "SELECT count(*) AS n FROM events WHERE event_type = 'evidence_read' AND command_kind = 'review' \
                AND principal = 'bob'";
    assert!(shop.gate.number(read) >= 2, "who looks at what waits is on record");
}

#[test]
fn what_is_rejected_is_refused_at_once_when_it_comes_again() {
    let mut shop = Shop::new(RULES);
    shop.gate.up();
    let waiting = shop.asks(DELETE);
    let review = shop.open_review();
    let _ = shop.retrace("bob", &["reject", &review, "--reason", "use the archive"]).expect_ok();
    let (ok, _, err) = waiting.end();
    assert!(!ok && err.contains("42501") && err.contains(&format!("review {review} rejected this")), "{err}");
    assert!(shop.run(DELETE).err().contains(&format!("review {review} rejected this")));
    let shown = shop.retrace("bot", &["reviews", &review]).expect_ok();
    assert!(shown.contains("use the archive"), "who asked sees why: {shown}");
    assert_eq!((shop.orders(), shop.count("review_requested")), (9, 1));
}

#[test]
fn what_is_approved_after_its_wait_runs_when_it_comes_again_and_once() {
    let mut shop = Shop::new(&RULES.replace("50s", "1s"));
    shop.gate.up();
    let (ok, _, err) = shop.asks(DELETE).end();
    assert!(!ok && err.contains("57014") && err.contains("nobody decided in time"), "{err}");
    let review = shop.open_review();
    let _ = shop.retrace("bob", &["approve", &review]).expect_ok();
    // Other words are another command.
    assert!(shop.run("DELETE FROM orders WHERE id = 2").err().contains("nobody decided in time"));
    assert!(
        shop.run(&format!("SET search_path = public; {DELETE}")).err().contains("nobody decided in time")
    );
    let ran = shop.run(DELETE);
    assert_eq!(ran.expect_ok().trim(), "DELETE 1");
    assert!(!ran.err().contains("held for review"), "at once: {}", ran.err());
    assert!(shop.run(DELETE).err().contains("nobody decided in time"));
    assert_eq!(shop.orders(), 8);
}

#[test]
fn who_has_a_key_of_their_own_decides_by_it_alone() {
    let mut shop = Shop::new(RULES);
    let key = |name: &str| shop.gate.dir().join(name).to_str().expect("unicode").to_owned();
    let (own, strange) = (key("own.key"), key("strange.key"));
    let public = shop.gate.retrace(&["review-key", &own, "--create"]).expect_ok();
    let _ = shop.gate.retrace(&["review-key", &strange, "--create"]).expect_ok();
    shop.gate.edit(|config| {
        let principals = config["principal"].as_array_mut().expect("a list");
        let bob = principals.iter_mut().find(|principal| principal["name"].as_str() == Some("bob"));
        let bob = bob.expect("a principal").as_table_mut().expect("a table");
        bob.insert("review_key".to_owned(), public.trim().into());
    });
    shop.gate.up();
    let waiting = shop.asks(DELETE);
    let review = shop.open_review();
    for more in [&["approve", &review][..], &["approve", &review, "--key", &strange]] {
        let said = shop.retrace("bob", more).expect_failure();
        assert!(said.contains("signed by your own key"), "{said}");
    }
    assert_eq!(shop.orders(), 9);
    let _ = shop.retrace("bob", &["approve", &review, "--key", &own, "--reason", "as agreed"]).expect_ok();
    let (ok, out, err) = waiting.end();
    assert!(ok && out.trim() == "DELETE 1", "{out} {err}");
}

#[test]
fn a_refusal_in_a_transaction_is_one_of_the_transaction() {
    let mut shop = Shop::new(&RULES.replace("50s", "1s"));
    shop.gate.up();
    let script = format!("BEGIN; INSERT INTO orders VALUES (10)\n;{DELETE}\n;COMMIT");
    let mut psql = shop.gate.psql_command_as("bot", shop.token("bot"));
    psql.args(["-v", "VERBOSITY=verbose"]);
    let said = retrace_tests::run(psql, script.as_bytes(), PATIENCE);
    assert!(said.err().contains("The transaction stays open meanwhile, with its locks."), "{}", said.err());
    assert!(said.out().trim().ends_with("ROLLBACK"), "{} {}", said.out(), said.err());
    assert_eq!(shop.orders(), 9);
}

/// Two proxies and two query services, on Kafka.
struct Fleet {
    shop: Shop,
    proxies: Vec<Process>,
    queries: Vec<Process>,
    _ingest: Process,
}

impl Fleet {
    fn start(rules: &str) -> Self {
        let shop = Shop::new(rules);
        shop.gate.put_log_on(Kafka::shared());
        let proxies = vec![shop.gate.service("proxy"), shop.gate.another_service("proxy", 2)];
        let ingest = shop.gate.service("ingest");
        let queries = vec![shop.gate.service("query"), shop.gate.another_service("query", 2)];
        Self { shop, proxies, queries, _ingest: ingest }
    }

    /// psql at one of the proxies.
    fn psql(&self, proxy: usize) -> Command {
        let mut command = self.shop.psql(DELETE);
        command.env("PGPORT", self.proxies[proxy].postgres_port.to_string());
        command.args(["-p", &self.proxies[proxy].postgres_port.to_string()]);
        command
    }
}

#[test]
fn a_review_outlives_whoever_asked_for_it_and_whoever_heard_of_it() {
    let mut fleet = Fleet::start(RULES);
    let waiting = Waiting::start(fleet.psql(0));
    let review = fleet.shop.open_review();
    // Whoever it waits at is gone, and comes back.
    fleet.proxies[0].kill();
    let (ok, ..) = waiting.end();
    assert!(!ok);
    fleet.queries[0].kill();
    fleet.queries[0].restart();
    let _ = fleet.shop.retrace("bob", &["approve", &review]).expect_ok();
    fleet.proxies[0].restart();
    // Both have the grant, and one of them uses it.
    let mut ran = 0;
    let both: Vec<_> = (0..2).map(|proxy| Waiting::start(fleet.psql(proxy))).collect();
    wait_for("one of them ran", PATIENCE, || (fleet.shop.orders() == 8).then_some(()));
    let other = fleet.shop.open_review();
    let _ = fleet.shop.retrace("bob", &["reject", &other]).expect_ok();
    for waiting in both {
        let (ok, out, err) = waiting.end();
        ran += u32::from(ok);
        assert!(ok && out.trim() == "DELETE 1" || err.contains("rejected this"), "{out} {err}");
    }
    assert_eq!(ran, 1);
    // Another command, asked for at one proxy and decided while it waits there.
    let waiting = Waiting::start({
        let mut command = fleet.shop.psql("DELETE FROM orders WHERE id = 2");
        command.args(["-p", &fleet.proxies[1].postgres_port.to_string()]);
        command
    });
    let _ = fleet.shop.retrace("bob", &["approve", &fleet.shop.open_review()]).expect_ok();
    assert!(waiting.end().0);
    assert_eq!(fleet.shop.orders(), 7);
}
