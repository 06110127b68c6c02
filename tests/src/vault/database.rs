//! The engine that makes roles at a target and changes their passwords.

use serde_json::{Value, json};

use super::Vault;
use crate::postgres::Database;

/// The password by which the engine itself comes to the target.
const ADMIN_PASSWORD: &str = "n0body-may-see-th1s-admin";

impl Vault {
    /// Lets the engine make roles at a database. A role that it makes may do what `shop_N_group` may, and has no more of its
    /// own.
    #[track_caller]
    pub fn lead_to(&self, database: Database<'_>) {
        let name = database.name();
        database.sql(&format!(
            "CREATE ROLE {name}_vault LOGIN CREATEROLE PASSWORD '{ADMIN_PASSWORD}';
             CREATE ROLE {name}_group NOLOGIN;
             GRANT {name}_group TO {name}_vault WITH ADMIN OPTION;
             GRANT CREATE, USAGE ON SCHEMA public TO {name}_group;"
        ));
        let port = database.postgres.port();
        self.put(
            "POST",
            &format!("database/config/{name}"),
            &json!({
                "plugin_name": "postgresql-database-plugin",
                "allowed_roles": ["*"],
                "connection_url":
                    format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{port}/{name}?sslmode=disable"),
                "username": format!("{name}_vault"),
                "password": ADMIN_PASSWORD,
                "password_authentication": "scram-sha-256",
            }),
        );
    }

    /// Roles for a time, each for `default_ttl` and renewed up to `max_ttl`; gives the path that makes one.
    #[track_caller]
    #[must_use]
    pub fn dynamic_role(&self, database: Database<'_>, default_ttl: &str, max_ttl: &str) -> String {
        let name = database.name();
        let role = json!({
            "db_name": name,
            "default_ttl": default_ttl,
            "max_ttl": max_ttl,
            "creation_statements": [
                format!(
                    "CREATE ROLE \"{{{{name}}}}\" LOGIN PASSWORD '{{{{password}}}}' VALID UNTIL '{{{{expiration}}}}' \
                     IN ROLE {name}_group"
                ),
                format!("ALTER ROLE \"{{{{name}}}}\" SET role = {name}_group"),
            ],
        });
        self.put("POST", &format!("database/roles/{name}"), &role);
        format!("database/creds/{name}")
    }

    /// A role whose password the engine changes: when it is told to, and once an hour.
    #[track_caller]
    #[must_use]
    pub fn static_role(&self, database: Database<'_>) -> String {
        let name = database.name();
        let role = format!("{name}_static");
        database.sql(&format!(
            "CREATE ROLE {role} LOGIN IN ROLE {name}_group; GRANT {role} TO {name}_vault WITH ADMIN OPTION;"
        ));
        let settings = json!({ "db_name": name, "username": role, "rotation_period": "3600s" });
        self.put("POST", &format!("database/static-roles/{name}"), &settings);
        format!("database/static-creds/{name}")
    }

    /// Changes the password of [`Vault::static_role`].
    #[track_caller]
    pub fn rotate(&self, database: Database<'_>) {
        self.put("POST", &format!("database/rotate-role/{}", database.name()), &json!({}));
    }

    /// The leases that a path has given and that are not over.
    #[track_caller]
    #[must_use]
    pub fn leases(&self, path: &str) -> Vec<String> {
        let (status, answer) = self.ask("LIST", &format!("sys/leases/lookup/{path}/"), None);
        assert!(matches!(status, 200 | 404), "{status} {answer}");
        let names = answer["data"]["keys"].as_array().cloned().unwrap_or_default();
        names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Takes back every lease of a path.
    #[track_caller]
    pub fn revoke_all(&self, path: &str) {
        self.put("PUT", &format!("sys/leases/revoke-prefix/{path}"), &json!({ "sync": true }));
    }
}

impl Database<'_> {
    /// The roles that the engine has made here, by name.
    #[must_use]
    #[track_caller]
    pub fn roles_for_a_time(&self) -> Vec<String> {
        let group = format!("{}_group", self.name());
        self.sql(&format!(
            "SELECT m.rolname FROM pg_auth_members JOIN pg_roles m ON m.oid = member JOIN pg_roles g ON g.oid = roleid
             WHERE g.rolname = '{group}' AND m.rolname LIKE 'v-%' ORDER BY 1"
        ))
    }
}
