//! What a configuration may name in a secret store.

use std::fmt;

/// The longest path, in bytes.
const PATH_BYTES_MAX: usize = 512;

/// The field of a secret in KV that has the password, if the configuration does not say.
const FIELD_DEFAULT: &str = "password";

/// A path of the API behind `/v1/`, as it stands in a policy: `secret/data/shop`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ApiPath(String);

/// What a credential is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A field of a secret in KV version 2 is the password of this role.
    Kv {
        /// Whom the gate logs in as.
        user: String,
        /// Where the secret is.
        path: ApiPath,
        /// Which part of it.
        field: String,
    },
    /// A role of the database engine whose password changes.
    Static {
        /// Where it is read.
        path: ApiPath,
    },
    /// Roles that the database engine makes for a time.
    Database {
        /// What makes one.
        path: ApiPath,
        /// Who has them.
        lending: Lending,
    },
}

/// Who has a role that was made for a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lending {
    /// All sessions that begin while it is new.
    #[default]
    Shared,
    /// One session.
    Session,
}

/// What is wrong with a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// No path of the API.
    #[error(
        "a path in Vault has neither / at its ends nor empty parts, `..`, ?, # or %, and {PATH_BYTES_MAX} bytes at most"
    )]
    Path,
    /// No path of KV version 2.
    #[error("`{0}` is not a path of KV version 2; allowed: MOUNT/data/NAME, such as secret/data/shop")]
    Kv(String),
    /// No path of the database engine that gives a credential.
    #[error("`{0}` gives no credential; allowed: MOUNT/creds/ROLE or MOUNT/static-creds/ROLE")]
    Database(String),
    /// Nothing is made for a time there.
    #[error("a static role has no lease: remove `lease`")]
    Lease,
}

impl ApiPath {
    /// Checks a path.
    ///
    /// # Errors
    /// It could lead elsewhere than it says.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        let is_plain = |c: char| !c.is_control() && !matches!(c, '?' | '#' | '%' | '\\');
        let is_part =
            |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(is_plain);
        let whole = text.len() <= PATH_BYTES_MAX && text.split('/').all(is_part);
        if whole { Ok(Self(text.to_owned())) } else { Err(InvalidReference::Path) }
    }

    /// The path itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Reference {
    /// A field of a secret in KV version 2, as the password of `user`.
    ///
    /// # Errors
    /// The path is not one of KV version 2.
    pub fn kv(user: String, path: &str, field: Option<String>) -> Result<Self, InvalidReference> {
        let path = ApiPath::parse(path)?;
        if !path.0.contains("/data/") {
            return Err(InvalidReference::Kv(path.0));
        }
        Ok(Self::Kv { user, path, field: field.unwrap_or_else(|| FIELD_DEFAULT.to_owned()) })
    }

    /// A role of the database engine.
    ///
    /// # Errors
    /// The path gives no credential.
    pub fn database(path: &str, lending: Option<Lending>) -> Result<Self, InvalidReference> {
        let path = ApiPath::parse(path)?;
        let mut parts = path.0.rsplit('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(_), Some("static-creds"), Some(_)) if lending.is_some() => Err(InvalidReference::Lease),
            (Some(_), Some("static-creds"), Some(_)) => Ok(Self::Static { path }),
            (Some(_), Some("creds"), Some(_)) => {
                Ok(Self::Database { path, lending: lending.unwrap_or_default() })
            }
            _ => Err(InvalidReference::Database(path.0)),
        }
    }

    /// Where it is read.
    #[must_use]
    pub fn path(&self) -> &ApiPath {
        match self {
            Self::Kv { path, .. } | Self::Static { path } | Self::Database { path, .. } => path,
        }
    }
}

/// As it is named in log lines and metrics.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kv { path, field, .. } if field != FIELD_DEFAULT => write!(f, "{path}#{field}"),
            _ => self.path().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_stands_in_a_policy() {
        for good in ["secret/data/shop", "a/b c/d-e_f", "team/x/database/creds/r"] {
            assert_eq!(ApiPath::parse(good).map(|path| path.0), Ok(good.to_owned()));
        }
        let long = "a".repeat(PATH_BYTES_MAX + 1);
        for bad in ["", "/a", "a/", "a//b", "a/../b", "./a", "a?b", "a#b", "a%2fb", "a\nb", "a\\b", &long] {
            assert_eq!(ApiPath::parse(bad), Err(InvalidReference::Path), "{bad:?}");
        }
    }

    #[test]
    fn a_secret_of_kv_is_named_by_the_path_of_its_data() {
        let kv = |path: &str| Reference::kv("shop".to_owned(), path, None);
        assert_eq!(kv("secret/data/shop/db").unwrap().to_string(), "secret/data/shop/db");
        for path in ["secret/shop", "secret/data", "data/shop", "secret/metadata/shop"] {
            let said = kv(path).unwrap_err().to_string();
            assert!(said.contains(path) && said.contains("MOUNT/data/NAME"), "{said}");
        }
        let other = Reference::kv("shop".to_owned(), "s/data/x", Some("pw".to_owned())).unwrap();
        assert_eq!(other.to_string(), "s/data/x#pw");
    }

    #[test]
    fn a_role_of_the_database_engine_is_named_by_the_path_that_gives_its_credential() {
        let path = "database/static-creds/shop";
        assert!(matches!(Reference::database(path, None), Ok(Reference::Static { .. })));
        assert_eq!(Reference::database(path, Some(Lending::Shared)), Err(InvalidReference::Lease));
        for (given, expected) in [
            (None, Lending::Shared),
            (Some(Lending::Shared), Lending::Shared),
            (Some(Lending::Session), Lending::Session),
        ] {
            let made = Reference::database("team/database/creds/shop", given).unwrap();
            assert!(matches!(made, Reference::Database { lending, .. } if lending == expected), "{made:?}");
        }
        for path in
            ["database/roles/shop", "static-creds/shop", "creds/shop", "database/static-creds", "shop"]
        {
            let said = Reference::database(path, None).unwrap_err().to_string();
            assert!(said.contains(path) && said.contains("static-creds/ROLE"), "{said}");
        }
    }
}
