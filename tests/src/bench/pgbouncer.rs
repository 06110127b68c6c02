//! PgBouncer beside the gate: one session of the target for each of a client, TLS to the client with the gate's own
//! certificate, cleartext to the target.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Lane;
use crate::leash::{Ending, Leash};
use crate::matrix::Way;
use crate::postgres::{give, server_account};
use crate::{Database, Gate, TARGET_PASSWORD, TARGET_USER, port, wait_for};

/// A PgBouncer in a temporary folder; it goes when this is dropped.
#[derive(Debug)]
pub struct PgBouncer {
    leash: Leash,
    port: u16,
}

impl PgBouncer {
    /// Starts one in front of `database`, with the certificate of `gate`.
    #[must_use]
    pub fn start(database: Database<'_>, gate: &Gate) -> Self {
        let account = server_account();
        let folder =
            tempfile::Builder::new().prefix("retrace-bouncer-").tempdir().expect("a temporary folder").keep();
        let port = port::free();
        for (name, from) in [("server.pem", "server.pem"), ("server.key", "keys/server.key")] {
            fs::copy(gate.dir().join(from), folder.join(name)).expect("the gate has a certificate");
        }
        let users = format!("\"{TARGET_USER}\" \"{TARGET_PASSWORD}\"\n");
        fs::write(folder.join("users.txt"), users).expect("the folder is writable");
        fs::write(folder.join("pgbouncer.ini"), settings(database, port)).expect("the folder is writable");
        for name in ["", "server.pem", "server.key", "users.txt", "pgbouncer.ini"] {
            give(&folder.join(name), account);
        }
        let leash = Leash::start(&folder, &program(), &["pgbouncer.ini".to_owned()], account, Ending::Asked)
            .expect("the keeper starts");
        wait_for("PgBouncer listens", Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { leash, port }
    }

    /// The way through it.
    #[must_use]
    pub fn lane(&self, database: Database<'_>, gate: &Gate) -> Lane {
        let way = Way::direct(database).at(self.port, gate.ca());
        Lane { name: "PgBouncer".to_owned(), way, pid: Some(self.leash.pid()) }
    }
}

fn settings(database: Database<'_>, port: u16) -> String {
    let (name, target) = (database.name(), database.postgres.port());
    format!(
        "[databases]
{name} = host=127.0.0.1 port={target} dbname={name}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = users.txt
pool_mode = session
default_pool_size = 100
max_client_conn = 200
client_tls_sslmode = require
client_tls_cert_file = server.pem
client_tls_key_file = server.key
server_tls_sslmode = disable
log_connections = 0
log_disconnections = 0
"
    )
}

/// Debian keeps it where root alone looks.
fn program() -> PathBuf {
    let path = Path::new("/usr/sbin/pgbouncer");
    if path.exists() { path.to_owned() } else { PathBuf::from("pgbouncer") }
}
