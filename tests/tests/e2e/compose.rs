//! docker-compose.yml without containers: what `deploy/init` hands to each service is what the service needs, and it serves
//! from that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use retrace_tests::{
    KAFKA_PASSWORD, Kafka, Outcome, Postgres, Process, S3, S3_ACCESS_KEY, S3_SECRET_KEY, TARGET_PASSWORD,
    binary, files_under, kubernetes, run,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::common::PATIENCE;

/// The services of Retrace, in the order of the table in docs/production.md.
const ROLES: [&str; 3] = ["proxy", "query", "ingest"];

/// The folder of the workspace: a test runs in the one of its crate.
pub(crate) fn root() -> PathBuf {
    Path::new("..").canonicalize().expect("the crate is in the workspace")
}

fn deployed(path: &str) -> PathBuf {
    root().join("deploy").join(path)
}

/// Runs `deploy/init`, which finds the tests' `retrace`.
fn init(state: &Path, configuration: &Path) -> Outcome {
    let programs = binary().parent().expect("a program is in a folder").display().to_string();
    let path = std::env::var("PATH").expect("PATH is set");
    let mut command = Command::new("sh");
    command.arg(deployed("init")).arg(state).arg(configuration);
    command.env("PATH", format!("{programs}:{path}")).env_remove("RETRACE_CONFIG");
    run(command, b"", PATIENCE)
}

/// The files under a folder, by their paths in it.
fn names(folder: &Path) -> BTreeSet<String> {
    let name = |path: PathBuf| path.strip_prefix(folder).expect("it is in there").display().to_string();
    files_under(folder).into_iter().map(name).collect()
}

/// The words between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// What each service needs, by the table in docs/production.md, and the credentials that the composed ones have.
fn documented() -> BTreeMap<&'static str, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("docs/production.md")).expect("it is there");
    let mut needed: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let rows = text.lines().skip_while(|line| !line.starts_with("| | `proxy` |"));
    for row in rows.skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        for (role, cell) in ROLES.into_iter().zip(&cells[1..]) {
            let files = needed.entry(role).or_default();
            match *cell {
                "" => {}
                "✓" => files.extend(quoted(cells[0])),
                other => files.extend(quoted(other)),
            }
        }
    }
    for (role, credentials) in [
        ("proxy", &["shop.password", "target-ca.pem", "kafka.password"][..]),
        ("query", &["kafka.password", "store.secret"]),
        ("ingest", &["kafka.password", "store.secret"]),
    ] {
        let files = needed.get_mut(role).expect("the table has it");
        assert!(files.contains("retrace.toml"), "the table was read: {files:?}");
        files.extend(credentials.iter().map(|file| (*file).to_owned()));
    }
    needed
}

#[test]
fn init_hands_each_service_what_it_needs_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let state = folder.path().join("state");
    let said = init(&state, &deployed("retrace.toml")).expect_ok();
    assert!(said.contains("1 principal, 1 target, 2 masks, 0 rules, 0 warnings"), "{said}");
    let documented = documented();
    for role in ROLES {
        assert_eq!(names(&state.join(role)), documented[role], "{role}");
        for file in files_under(&state.join(role)) {
            let mode = file.metadata().expect("it is there").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.display());
        }
    }
    for (other, files) in [
        ("kafka", &["kafka.cluster", "kafka.password"][..]),
        ("store", &["store.secret"]),
        ("target", &["server.key", "server.pem", "shop.password"]),
        ("client", &["ca.pem", "dev.token"]),
    ] {
        let files: BTreeSet<_> = files.iter().map(|file| (*file).to_owned()).collect();
        assert_eq!(names(&state.join(other)), files, "{other}");
        for file in files_under(&state.join(other)) {
            let mode = file.metadata().expect("it is there").permissions().mode() & 0o777;
            assert_eq!(mode & 0o137, 0, "{} has mode {mode:o}", file.display());
        }
    }
    assert!(state.join("data/buckets/lake").is_dir(), "the bucket is there");
    // Pods have the same.
    for manifest in kubernetes().iter().filter(|manifest| manifest["kind"] == "Deployment") {
        let role = manifest["metadata"]["labels"]["role"].as_str().expect("a role");
        let items = manifest["spec"]["template"]["spec"]["volumes"][0]["secret"]["items"].as_array();
        let paths =
            items.expect("items").iter().map(|item| item["path"].as_str().expect("a path").to_owned());
        assert_eq!(paths.collect::<BTreeSet<_>>(), documented[role], "{role}");
    }
}

#[test]
fn init_keeps_what_it_made_and_hands_out_no_configuration_that_is_wrong() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let state = folder.path().join("state");
    let _ = init(&state, &deployed("retrace.toml")).expect_ok();
    let contents = || {
        let files = files_under(&state).into_iter();
        let files = files.filter(|path| !path.ends_with("checked.toml"));
        files.map(|path| (path.clone(), fs::read(path).expect("it can be read"))).collect::<BTreeMap<_, _>>()
    };
    let made = contents();
    let _ = init(&state, &deployed("retrace.toml")).expect_ok();
    assert!(contents() == made, "a second run changed something");
    let wrong = folder.path().join("wrong.toml");
    fs::write(&wrong, "[nonsense]\n").expect("the folder is writable");
    let said = init(&state, &wrong).expect_failure();
    assert!(said.contains("nonsense"), "{said}");
    assert!(contents() == made, "a wrong configuration went somewhere");
}

#[test]
fn the_target_proves_itself_to_the_gate_by_what_init_made() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let state = folder.path().join("state");
    let _ = init(&state, &deployed("retrace.toml")).expect_ok();
    let read = |path: &str| CertificateDer::from_pem_file(state.join(path)).expect("a certificate");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(read("proxy/target-ca.pem")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().expect("a verifier");
    let certificate = read("target/server.pem");
    let holds = |name: &'static str| {
        let name = ServerName::try_from(name).expect("a name");
        verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now()).is_ok()
    };
    assert!(holds("target") && !holds("elsewhere"));
}

#[test]
fn the_load_balancer_takes_its_configuration() {
    let mut command = Command::new("/usr/sbin/haproxy");
    command.args(["-c", "-f"]).arg(deployed("haproxy.cfg"));
    let outcome = run(command, b"", PATIENCE);
    let said = outcome.out() + &outcome.err();
    assert!(outcome.status.success() && !said.contains("WARNING"), "{said}");
}

/// deploy/retrace.toml with the addresses and names of the tests' servers.
fn configuration(kafka: &Kafka, s3: &S3, address: &str, database: &str) -> String {
    let text = fs::read_to_string(deployed("retrace.toml")).expect("it is there");
    let mut config: toml::Table = text.parse().expect("it is TOML");
    let mut set = |path: &[&str], value: &str| {
        let (last, folders) = path.split_last().expect("a path is not empty");
        let mut table = &mut config;
        for folder in folders {
            table = table[*folder].as_table_mut().expect("a table");
        }
        let before = table.insert((*last).to_owned(), value.into());
        assert!(before.is_some(), "{path:?} is not in deploy/retrace.toml");
    };
    for listener in [&["proxy", "postgres"][..], &["query", "postgres"], &["query", "grpc"], &["health"]] {
        set(&[listener, &["listen"]].concat(), "127.0.0.1:0");
    }
    set(&["log", "kafka", "topic_prefix"], &kafka.topic_prefix());
    set(&["log", "kafka", "options", "bootstrap.servers"], &kafka.sasl_servers());
    set(&["lake", "url"], &s3.url());
    set(&["lake", "options", "aws_endpoint"], &s3.endpoint());
    set(&["lake", "options", "aws_access_key_id"], S3_ACCESS_KEY);
    let target = config["target"][0].as_table_mut().expect("a target");
    target.insert("address".to_owned(), address.into());
    target.insert("database".to_owned(), database.into());
    // The tests' own target speaks no TLS.
    target.insert("tls".to_owned(), "disable".into());
    target.remove("tls_ca");
    config.to_string()
}

/// The port of a listener, from the line that says that a service is ready.
#[track_caller]
fn port_of(listener: &str, ready: &str) -> String {
    let prefix = format!("{listener}=127.0.0.1:");
    let port = ready.split_whitespace().find_map(|word| word.strip_prefix(&prefix));
    port.unwrap_or_else(|| panic!("no {listener} in: {ready}")).to_owned()
}

#[test]
fn the_services_serve_from_what_init_handed_them() {
    let (kafka, s3) = (Kafka::shared(), S3::shared());
    let database = Postgres::shared().database();
    let sql = fs::read_to_string(deployed("shop/shop.sql")).expect("it is there");
    database.seed(sql.split_once("SET ROLE shop;\n").expect("tables come after the role").1);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let state = folder.path().join("state");
    let file = folder.path().join("retrace.toml");
    let address = format!("127.0.0.1:{}", Postgres::shared().port());
    fs::write(&file, configuration(kafka, s3, &address, &database.name())).expect("the folder is writable");
    let _ = init(&state, &file).expect_ok();
    // The tests' servers have passwords of their own.
    let gate = state.join("gateway/gate");
    for (name, password) in [
        ("kafka.password", KAFKA_PASSWORD),
        ("store.secret", S3_SECRET_KEY),
        ("shop.password", TARGET_PASSWORD),
    ] {
        fs::write(gate.join(name), password).expect("the folder is writable");
    }
    let _ = init(&state, &file).expect_ok();
    let serve = |role: &str| {
        Process::of(role, &state.join(role).join("retrace.toml"), &folder.path().join(format!("{role}-said")))
    };
    let (proxy, at) = serve("proxy");
    let (mut ingest, _) = serve("ingest");
    let (query, asked) = serve("query");

    let token = fs::read_to_string(state.join("client/dev.token")).expect("it is there");
    let mut psql = Command::new("psql");
    psql.args(["-h", "127.0.0.1", "-p", &port_of("postgres", &at), "-U", "dev", "-d", "shop", "-XAt", "-c"]);
    psql.arg("SELECT email, ssn FROM customers WHERE id = 1");
    psql.env("PGPASSWORD", token.trim()).env("PGSSLMODE", "verify-full");
    psql.env("PGSSLROOTCERT", state.join("client/ca.pem"));
    let seen = run(psql, b"", PATIENCE).expect_ok();
    assert!(seen.starts_with("a***@example.com|") && !seen.contains("078-05-1120"), "{seen}");

    let mut sql = Command::new(binary());
    sql.args(["sql", "--format", "json", "--server"]).arg(format!("127.0.0.1:{}", port_of("grpc", &asked)));
    sql.arg("--config").arg(gate.join("retrace.toml"));
    sql.arg("SELECT statement, rows FROM commands WHERE principal = 'dev' AND status = 'ok'");
    sql.env_remove("RETRACE_TOKEN");
    let found: serde_json::Value = serde_json::from_str(&run(sql, b"", PATIENCE).expect_ok()).expect("JSON");
    assert_eq!(found[0]["statement"], "SELECT email, ssn FROM customers WHERE id = 1", "{found}");
    assert_eq!(found[0]["rows"], 1, "{found}");

    assert!(ingest.stop().success(), "a clean end");
    drop((proxy, query));
}
