//! A gate's configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{Gate, PASSWORD_VARIABLE};
use crate::postgres::{Database, TARGET_USER};
use crate::{Kafka, S3, S3Faults, Vault};

impl Gate {
    /// Changes the configuration; comments are lost.
    pub fn edit(&self, change: impl FnOnce(&mut toml::Table)) {
        let text = fs::read_to_string(self.config_file()).expect("init wrote it");
        let mut config = text.parse().expect("init writes TOML");
        change(&mut config);
        fs::write(self.config_file(), config.to_string()).expect("the configuration is writable");
    }

    /// Appends the entries of `more`, such as `[[principal]] …`, to the lists the configuration has.
    pub fn add(&self, more: &str) {
        let more: toml::Table = more.parse().expect("the test writes TOML");
        self.edit(|config| {
            for (name, entries) in more {
                let list = config.entry(name).or_insert_with(|| toml::Value::Array(Vec::new()));
                let entries = entries.as_array().expect("a list of tables").clone();
                list.as_array_mut().expect("a list of tables").extend(entries);
            }
        });
    }

    /// Puts the log on a Kafka cluster, under topics of its own.
    pub fn put_log_on(&self, kafka: &Kafka) {
        self.edit(|config| {
            config.remove("log");
            let log = ["log", "kafka"];
            set(config, &[&log[..], &["topic_prefix"]].concat(), kafka.topic_prefix());
            set(config, &[&log[..], &["options", "bootstrap.servers"]].concat(), kafka.servers());
        });
    }

    /// Puts the table into an S3 server, at a place of its own.
    pub fn put_lake_on(&self, s3: &S3) {
        self.edit(|config| {
            config.remove("lake");
            set(config, &["lake", "url"], s3.url());
            for (name, value) in s3.options() {
                set(config, &["lake", "options", name], value);
            }
        });
    }

    /// Where the table is, if it has an address.
    ///
    /// # Panics
    /// If it was put nowhere.
    #[must_use]
    pub fn table_url(&self) -> String {
        let text = fs::read_to_string(self.config_file()).expect("init wrote it");
        let config: toml::Table = text.parse().expect("init writes TOML");
        config["lake"]["url"].as_str().expect("the table has an address").to_owned()
    }

    /// Puts the table into an S3 server, reached through what may fail on demand.
    pub fn put_lake_behind(&self, faults: &S3Faults) {
        self.put_lake_on(faults.s3());
        self.edit(|config| set(config, &["lake", "options", "aws_endpoint"], faults.endpoint()));
    }

    /// Has the gate log in at a secret store: by what `login` says, as `[vault]` has it.
    pub fn log_in_at(&self, vault: &Vault, login: &str) {
        self.edit(|config| {
            let login = login.parse().expect("the test writes TOML");
            config.insert("vault".to_owned(), toml::Value::Table(login));
            set(config, &["vault", "address"], vault.address());
            set(config, &["vault", "tls_ca"], vault.ca().display().to_string());
        });
    }

    /// Has the gate log in at the target `shop` by what `credential` says: `user` and `password`, or `credential`.
    pub fn set_credential(&self, credential: &str) {
        let credential: toml::Table = credential.parse().expect("the test writes TOML");
        self.edit(|config| {
            let target = config["target"][0].as_table_mut().expect("a table");
            for name in ["user", "password", "credential"] {
                target.remove(name);
            }
            target.extend(credential);
        });
    }

    /// Writes a file of a secret beside the configuration.
    pub fn put_secret(&self, name: &str, secret: &str) {
        let (path, new) = (self.dir().join(name), self.dir().join(format!("{name}.new")));
        fs::write(&new, secret).expect("the folder is writable");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("a file of our own");
        fs::rename(new, path).expect("the folder is writable");
    }

    /// Adds a target that leads to `database` with a durability, to be reached by `dev` and masked as `shop` is.
    pub fn add_target(&self, name: &str, database: Database<'_>, durability: &str) {
        self.add(&target_of(name, database).replace("\"exchange\"", &format!("\"{durability}\"")));
        self.edit(|config| {
            for list in ["principal", "mask"] {
                for entry in config[list].as_array_mut().expect("a list of tables") {
                    let targets = entry["targets"].as_array_mut().expect("a list of names");
                    targets.push(toml::Value::String(name.to_owned()));
                }
            }
        });
    }

    /// Adds a principal and gives its new token.
    #[must_use]
    pub fn add_principal(&self, name: &str, targets: &[&str], evidence: &str) -> String {
        self.add(&format!(
            "[[principal]]\nname = \"{name}\"\nkind = \"agent\"\ntargets = {targets:?}\nevidence = \"{evidence}\"\n"
        ));
        self.new_token(name)
    }

    /// A further token of a principal.
    #[must_use]
    pub fn new_token(&self, principal: &str) -> String {
        let printed = self.retrace(&["token", "create", principal]).expect_ok();
        let token = printed.split_whitespace().find(|word| word.starts_with("rt_"));
        token.unwrap_or_else(|| panic!("no token in {printed}")).to_owned()
    }
}

/// The mask that every gate of the tests has.
pub(super) const MASK: &str = r#"
[[mask]]
name = "pii"
targets = ["shop"]
detectors = ["payment_card", "email"]
action = "partial"
"#;

/// A `[[target]]` that leads to `database`.
pub(super) fn target_of(name: &str, database: Database<'_>) -> String {
    format!(
        r#"
[[target]]
name = "{name}"
protocol = "postgres"
address = "127.0.0.1:{}"
database = "{}"
user = "{TARGET_USER}"
password = {{ env = "{PASSWORD_VARIABLE}" }}
durability = "exchange"
tls = "disable"
"#,
        database.postgres.port(),
        database.name()
    )
}

/// Sets the value at the end of `path`, making tables on the way.
pub(super) fn set(config: &mut toml::Table, path: &[&str], value: impl Into<toml::Value>) {
    let (last, folders) = path.split_last().expect("a path is not empty");
    let mut table = config;
    for folder in folders {
        let next = table.entry(*folder).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        table = next.as_table_mut().expect("a table");
    }
    table.insert((*last).to_owned(), value.into());
}
