//! The secret store: a real OpenBao, which speaks HashiCorp Vault's API.

mod database;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use retrace_access::Ca;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::leash::{Ending, Leash};
use crate::{cache, port, run, wait_for};

/// How long starting it, or one request, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on 127.0.0.1 with TLS, that keeps everything in memory and has the engines `secret` (KV version 2) and
/// `database`. It and its folder go when this is dropped or the process ends, whichever way.
#[derive(Debug)]
pub struct Vault {
    folder: PathBuf,
    port: u16,
    unseal_key: String,
    root_token: String,
    leash: Leash,
}

/// How a service logs in by AppRole.
#[derive(Clone, Debug)]
pub struct AppRole {
    /// The name of the role, which is its policy's too.
    pub name: String,
    /// Which role, as the login says it.
    pub role_id: String,
    /// Its secret.
    pub secret_id: String,
}

impl Vault {
    /// The server that all tests of a process share which neither seal nor pause it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Vault> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server, unsealed.
    #[must_use]
    pub fn start() -> Self {
        let folder =
            tempfile::Builder::new().prefix("retrace-vault-").tempdir().expect("a temporary folder").keep();
        let ca = Ca::create(&folder).expect("a CA");
        let identity = ca.issue_server(&["127.0.0.1".to_owned()]).expect("a certificate");
        let port = port::free();
        let config = format!(
            "storage \"inmem\" {{}}\n\
             listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  cluster_address = \"127.0.0.1:0\"\n  \
             tls_cert_file = \"{}\"\n  tls_key_file = \"{}\"\n}}\n\
             api_addr = \"https://127.0.0.1:{port}\"\n",
            identity.certificate.display(),
            identity.key.display()
        );
        let file = folder.join("vault.hcl");
        fs::write(&file, config).expect("the folder is writable");
        let arguments = ["server".to_owned(), format!("-config={}", file.display())];
        let leash = Leash::start(&folder, &program(), &arguments, None, Ending::Killed).expect("it starts");
        let mut vault = Self { folder, port, unseal_key: String::new(), root_token: String::new(), leash };
        vault.initialize();
        vault
    }

    fn initialize(&mut self) {
        wait_for("the secret store answers", PATIENCE, || {
            assert!(
                PathBuf::from(format!("/proc/{}", self.leash.pid())).exists(),
                "it ended: {}",
                fs::read_to_string(self.folder.join("log")).unwrap_or_default()
            );
            (self.status() == 501).then_some(())
        });
        let shares = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let made = self.put("PUT", "sys/init", &shares);
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        self.unseal_key = text(&made["keys"][0]);
        self.root_token = text(&made["root_token"]);
        self.unseal();
        self.put("POST", "sys/mounts/secret", &json!({ "type": "kv", "options": { "version": "2" } }));
        self.put("POST", "sys/mounts/database", &json!({ "type": "database" }));
        for method in ["approle", "cert", "jwt"] {
            self.put("POST", &format!("sys/auth/{method}"), &json!({ "type": method }));
        }
        // The engine is made version 2 behind the answer.
        wait_for("it takes secrets", PATIENCE, || {
            let (status, _) = self.ask("POST", "secret/data/first", Some(&json!({ "data": { "a": "b" } })));
            (status == 200).then_some(())
        });
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Its certificate authority.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        Ca::certificate_path(&self.folder)
    }

    /// The token that may do everything.
    #[must_use]
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// Asks it something as root; gives the status and the answer.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.ask_with(method, path, body, &[format!("X-Vault-Token: {}", self.root_token)])
    }

    /// Asks it something with these headers.
    #[track_caller]
    pub fn ask_with(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[String],
    ) -> (u16, Value) {
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "30", "--write-out", "\n%{http_code}"]);
        command.arg("--cacert").arg(self.ca()).args(["--request", method]);
        for header in headers {
            command.args(["--header", header]);
        }
        if body.is_some() {
            command.args(["--data-binary", "@-"]);
        }
        command.arg(format!("{}/v1/{path}", self.address()));
        let body = body.map(Value::to_string).unwrap_or_default();
        let said = run(command, body.as_bytes(), PATIENCE).out();
        let (answer, status) = said.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap_or(0), serde_json::from_str(answer).unwrap_or(Value::Null))
    }

    /// Tells it something as root, and gives the answer.
    #[track_caller]
    pub fn put(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, Some(body));
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Writes a secret into KV version 2; gives the path that it is read by.
    #[track_caller]
    pub fn put_kv(&self, name: &str, field: &str, value: &str) -> String {
        let path = format!("secret/data/{name}");
        self.put("POST", &path, &json!({ "data": { field: value } }));
        path
    }

    /// Lets whoever has this policy do what `capabilities` say: of each path.
    #[track_caller]
    pub fn put_policy(&self, name: &str, capabilities: &[(&str, &str)]) {
        let rule = |(path, capability): &(&str, &str)| {
            format!("path \"{path}\" {{ capabilities = [\"{capability}\"] }}\n")
        };
        let policy: String = capabilities.iter().map(rule).collect();
        self.put("PUT", &format!("sys/policies/acl/{name}"), &json!({ "policy": policy }));
    }

    /// A login by AppRole with the policy of the same name. `settings` are those of its tokens.
    #[track_caller]
    #[must_use]
    pub fn approle(&self, name: &str, settings: &Value) -> AppRole {
        let role = format!("auth/approle/role/{name}");
        let mut settings = settings.clone();
        settings["token_policies"] = json!([name]);
        self.put("POST", &role, &settings);
        let (_, role_id) = self.ask("GET", &format!("{role}/role-id"), None);
        let secret_id = self.put("POST", &format!("{role}/secret-id"), &json!({}));
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        AppRole {
            name: name.to_owned(),
            role_id: text(&role_id["data"]["role_id"]),
            secret_id: text(&secret_id["data"]["secret_id"]),
        }
    }

    /// A token that a secret_id of the role comes by, once.
    #[track_caller]
    #[must_use]
    pub fn wrapped_secret_id(&self, role: &AppRole) -> String {
        let headers = [format!("X-Vault-Token: {}", self.root_token), "X-Vault-Wrap-TTL: 300s".to_owned()];
        let path = format!("auth/approle/role/{}/secret-id", role.name);
        let (_, answer) = self.ask_with("POST", &path, Some(&json!({})), &headers);
        answer["wrap_info"]["token"].as_str().expect("a token").to_owned()
    }

    /// A token with a policy.
    #[track_caller]
    #[must_use]
    pub fn new_token(&self, policy: &str, settings: &Value) -> String {
        let mut settings = settings.clone();
        settings["policies"] = json!([policy]);
        // Without a parent, so that it does not share another one's end.
        let made = self.put("POST", "auth/token/create-orphan", &settings);
        made["auth"]["client_token"].as_str().expect("a token").to_owned()
    }

    /// Lets nothing out until it is unsealed.
    #[track_caller]
    pub fn seal(&self) {
        self.put("PUT", "sys/seal", &json!({}));
        wait_for("it is sealed", PATIENCE, || (self.status() == 503).then_some(()));
    }

    /// Opens it.
    #[track_caller]
    pub fn unseal(&self) {
        self.put("PUT", "sys/unseal", &json!({ "key": self.unseal_key }));
        wait_for("it is unsealed", PATIENCE, || (self.status() == 200).then_some(()));
    }

    /// Lets it answer nobody until it is woken.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it answer again.
    pub fn wake(&self) {
        self.signal(Signal::CONT);
    }

    /// What it says of its health by a status.
    fn status(&self) -> u16 {
        self.ask_with("GET", "sys/health", None, &[]).0
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.leash.pid()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("the server can be signalled");
    }
}

fn program() -> PathBuf {
    let program = cache("RETRACE_VAULT", "vault").join("bin/bao");
    assert!(program.exists(), "{} is not there; run `make test`", program.display());
    program
}
