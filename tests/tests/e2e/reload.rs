//! SIGHUP: what may change does, for whoever comes from then on; what is wrong changes nothing.

use std::sync::Arc;

use retrace_access::Ca;
use retrace_tests::client::{self, Tls};
use retrace_tests::{Gate, Health, Postgres, wait_for};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::common::{PATIENCE, assert_nothing_lost_nothing_twice, code};

const DONE: &str = "retrace_config_reloads_total";
const FAILED: &str = "retrace_config_reload_failures_total";

/// A gate that tells of its health.
fn started(gate: &mut Gate) -> Health {
    let health = gate.tell_health();
    gate.up();
    health.wait_until_ready();
    health
}

/// Sends SIGHUP and waits until it was heeded, so or so.
fn reload(gate: &Gate, health: Health, counter: &str) {
    let before = health.metric(counter);
    gate.signal(Signal::HUP);
    wait_for("the configuration was read again", PATIENCE, || {
        (health.metric(counter) > before).then_some(())
    });
}

async fn number(client: &tokio_postgres::Client, statement: &str) -> String {
    let rows = client.simple_query(statement).await.expect("it runs");
    rows.iter()
        .find_map(|row| match row {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .expect("a row")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_principal_is_renamed_and_a_mask_added_for_who_comes_from_then_on() {
    let mut gate = Gate::new(Postgres::shared().database());
    let health = started(&mut gate);
    let before = client::connect(&gate).await;
    let phone = "SELECT '+49 30 901820'::text AS called, 'under way'";
    let seen = number(&before.client, phone).await;
    assert_eq!(seen, "+49 30 901820");
    let eve_token = gate.add_principal("eve", &["*"], "none");
    reload(&gate, health, DONE);

    let old_token = gate.dev_token();
    gate.edit(|config| {
        config["principal"][0]["name"] = "ann".into();
        config["mask"][0]["detectors"].as_array_mut().expect("a list").push("phone".into());
    });
    let token = gate.new_token("ann");
    let connect = async |name: &str, token: &str| {
        let config = client::config_at(gate.port(), name, token, "shop");
        client::connect_with(config, Tls::trusting(&gate.ca())).await
    };
    let eve = connect("eve", &eve_token).await.expect("it counts already");
    let refused = connect("ann", &token).await.err().expect("it does not count yet");
    assert_eq!(code(&refused), "28P01");
    reload(&gate, health, DONE);
    let after = connect("ann", &token).await.expect("it counts now");
    assert_ne!(number(&after.client, phone).await, seen, "masked from now on");
    assert_eq!(number(&eve.client, phone).await, seen, "a session keeps the masks that it began with");
    let denied = before.client.simple_query(phone).await.expect_err("whom no rule names may nothing");
    assert_eq!(code(&denied), "42501");
    let refused = connect("dev", &old_token).await.err().expect("there is no such principal any more");
    assert_eq!(code(&refused), "28P01");

    let said = String::from_utf8_lossy(&gate.said()).into_owned();
    let version =
        said.split("version=\"").last().and_then(|rest| rest.split('"').next()).expect("its version");
    let hex: String = version.bytes().map(|byte| format!("{byte:02x}")).collect();
    let by_version = |of: &str| {
        let asked = format!(
            "SELECT principal, encode(payload, 'hex') LIKE '%{hex}%' AS is_new, count(*) AS n FROM events \
             WHERE event_type = '{of}' GROUP BY 1, 2 ORDER BY 1, 2"
        );
        gate.sql_as(Some(&token), &asked)
    };
    let commands = by_version("command_received");
    let named: Vec<_> =
        commands.iter().map(|row| (row["principal"].as_str(), row["is_new"].as_bool())).collect();
    let by = |name| move |is_new| (Some(name), Some(is_new));
    assert_eq!(named, [by("ann")(true), by("dev")(false), by("dev")(true), by("eve")(true)]);
    let loaded: Vec<_> =
        by_version("policy_loaded").iter().map(|row| (row["is_new"].clone(), row["n"].clone())).collect();
    assert_eq!(loaded, [(false.into(), 2.into()), (true.into(), 1.into())], "each is on record once");
}

/// The certificate that a listener shows to who begins with TLS.
async fn shown(gate: &Gate, port: u16, alpn: &[u8]) -> CertificateDer<'static> {
    let mut settings = (*Tls::trusting(&gate.ca()).settings()).clone();
    settings.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("somebody listens");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let stream = TlsConnector::from(Arc::new(settings)).connect(name, stream).await.expect("TLS");
    stream.get_ref().1.peer_certificates().expect("it shows one")[0].clone().into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_rotated_at_every_listener_and_sessions_live_on() {
    let mut gate = Gate::new(Postgres::shared().database());
    let health = started(&mut gate);
    let listeners = [(gate.port(), &b"postgresql"[..]), (gate.grpc_port(), b"h2")];
    let before = client::connect(&gate).await;
    let mut old = Vec::new();
    for (port, alpn) in listeners {
        old.push(shown(&gate, port, alpn).await);
    }
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    Ca::load(&gate.dir()).expect("the gate's CA").issue_server(&names).expect("a certificate");
    assert_eq!(shown(&gate, gate.port(), b"postgresql").await, old[0], "it does not count yet");
    reload(&gate, health, DONE);
    for ((port, alpn), old) in listeners.into_iter().zip(&old) {
        let new = shown(&gate, port, alpn).await;
        assert!(new != *old, "the listener at {port} shows the old certificate");
    }
    assert_eq!(number(&before.client, "SELECT 1").await, "1", "a session lives on");
    // psql binds its login to the certificate that it sees.
    let mut bound = gate.psql_command();
    bound.env("PGCHANNELBINDING", "require").args(["-Atc", "SELECT 'bound'"]);
    assert_eq!(retrace_tests::run(bound, b"", PATIENCE).expect_ok().trim(), "bound");
    let at_evidence = gate.psql_at_evidence("dev", &gate.dev_token(), "SELECT 'verified'");
    assert_eq!(at_evidence.expect_ok().trim(), "verified");
    assert_eq!(gate.number("SELECT count(*) AS n FROM commands WHERE statement = 'SELECT ''bound'''"), 1);
}

#[test]
fn what_is_wrong_or_cannot_change_keeps_the_old_configuration_whole() {
    let mut gate = Gate::new(Postgres::shared().database());
    let health = started(&mut gate);
    let good = std::fs::read_to_string(gate.config_file()).expect("it is there");
    let serves = |gate: &Gate| assert_eq!(gate.psql("SELECT 1").expect_ok().trim(), "1");

    let moved = good.replace(&gate.port().to_string(), "1");
    let nameless = good.replace("kind = \"human\"", "kind = \"robot\"");
    for (text, word) in
        [(moved, "[proxy] cannot change while the process runs: restart"), (nameless, "robot")]
    {
        assert_ne!(text, good);
        std::fs::write(gate.config_file(), text).expect("it is writable");
        reload(&gate, health, FAILED);
        let said = String::from_utf8_lossy(&gate.said()).into_owned();
        assert!(said.contains("the configuration is not changed: ") && said.contains(word), "{said}");
        assert_eq!(health.ask("GET /readyz").0, 200, "it serves as before");
        // The file is read by psql's own command line too.
        std::fs::write(gate.config_file(), &good).expect("it is writable");
        serves(&gate);
    }
    let certificate = gate.dir().join("server.pem");
    let pem = std::fs::read(&certificate).expect("it is there");
    std::fs::write(&certificate, b"no certificate").expect("it is writable");
    reload(&gate, health, FAILED);
    serves(&gate);
    std::fs::write(&certificate, pem).expect("it is writable");
    reload(&gate, health, DONE);
    serves(&gate);
    assert_eq!(gate.number("SELECT count(*) AS n FROM events WHERE event_type = 'policy_loaded'"), 2);
    assert_nothing_lost_nothing_twice(&gate);
}
