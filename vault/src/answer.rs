//! What is read of an answer. None of these prints.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use retrace_access::Secret;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The longest term that is believed, so that every instant can be told.
const TERM_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// How long these seconds of an answer are.
pub(crate) fn term(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(TERM_MAX)
}

/// A text that must not be seen.
pub(crate) struct Text(pub(crate) Secret);

/// The answer to a login, and to the renewal of a token.
#[derive(Deserialize)]
pub(crate) struct Granted {
    pub(crate) auth: Auth,
}

#[derive(Deserialize)]
pub(crate) struct Auth {
    pub(crate) client_token: Text,
    pub(crate) lease_duration: u64,
    #[serde(default)]
    pub(crate) renewable: bool,
}

/// What a token is. Its `id` is the token itself, and is not read.
#[derive(Deserialize)]
pub(crate) struct TokenState {
    pub(crate) data: TokenData,
}

#[derive(Deserialize)]
pub(crate) struct TokenData {
    pub(crate) ttl: u64,
    #[serde(default)]
    pub(crate) renewable: bool,
}

/// A secret of KV version 2.
#[derive(Deserialize)]
pub(crate) struct KvRead {
    pub(crate) data: KvData,
}

#[derive(Deserialize)]
pub(crate) struct KvData {
    /// `None` if it was deleted.
    pub(crate) data: Option<HashMap<String, Field>>,
}

/// A part of a secret. Numbers, tables and lists are no passwords.
pub(crate) enum Field {
    Text(Secret),
    Other,
}

/// A role of the database engine with its password.
#[derive(Deserialize)]
pub(crate) struct StaticRead {
    pub(crate) data: StaticAccount,
}

#[derive(Deserialize)]
pub(crate) struct StaticAccount {
    pub(crate) username: String,
    pub(crate) password: Text,
    /// Seconds until it is changed.
    #[serde(default)]
    pub(crate) ttl: u64,
}

/// A role that was made for a time.
#[derive(Deserialize)]
pub(crate) struct Issued {
    pub(crate) lease_id: Text,
    pub(crate) lease_duration: u64,
    #[serde(default)]
    pub(crate) renewable: bool,
    pub(crate) data: Account,
}

#[derive(Deserialize)]
pub(crate) struct Account {
    pub(crate) username: String,
    pub(crate) password: Text,
}

/// A lease that was renewed.
#[derive(Deserialize)]
pub(crate) struct RenewedLease {
    pub(crate) lease_duration: u64,
    #[serde(default)]
    pub(crate) renewable: bool,
}

/// What the gate may do.
#[derive(Deserialize)]
pub(crate) struct Capable {
    pub(crate) data: Capabilities,
}

#[derive(Deserialize)]
pub(crate) struct Capabilities {
    pub(crate) capabilities: Vec<String>,
}

/// What a wrapping token was made for.
#[derive(Deserialize)]
pub(crate) struct Wrapped {
    pub(crate) data: WrappedData,
}

#[derive(Deserialize)]
pub(crate) struct WrappedData {
    pub(crate) creation_path: String,
}

/// What it wrapped.
#[derive(Deserialize)]
pub(crate) struct Unwrapped {
    pub(crate) data: SecretId,
}

#[derive(Deserialize)]
pub(crate) struct SecretId {
    pub(crate) secret_id: Text,
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Field::deserialize(deserializer)? {
            Field::Text(secret) => Ok(Self(secret)),
            Field::Other => Err(de::Error::custom("not a text")),
        }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

/// By hand, so that a text is taken over without a copy that nobody wipes.
struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(Secret::new(text.as_bytes().to_vec())))
    }

    fn visit_string<E>(self, text: String) -> Result<Field, E> {
        Ok(Field::Text(Secret::new(text.into_bytes())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Field, A::Error> {
        while table.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_secret_are_told_from_what_else_it_has() {
        let answer = r#"{"data":{"data":{"a":"x","b":1,"c":-1.5,"d":null,"e":[1,{"f":"g"}],"h":{"i":"j"},"k":true,
                         "l":"m\n"},"metadata":{"version":3}},"more":"z"}"#;
        let read: KvRead = serde_json::from_str(answer).unwrap();
        let fields = read.data.data.unwrap();
        let text = |name: &str| match &fields[name] {
            Field::Text(secret) => Some(String::from_utf8(secret.expose().to_vec()).unwrap()),
            Field::Other => None,
        };
        assert_eq!((text("a").as_deref(), text("l").as_deref()), (Some("x"), Some("m\n")));
        for name in ["b", "c", "d", "e", "h", "k"] {
            assert_eq!(text(name), None, "{name}");
        }
        let deleted = r#"{"data":{"data":null,"metadata":{"version":3}}}"#;
        assert!(serde_json::from_str::<KvRead>(deleted).unwrap().data.data.is_none());
        let odd = r#"{"auth":{"client_token":5,"lease_duration":1}}"#;
        assert!(serde_json::from_str::<Granted>(odd).is_err());
    }
    #[test]
    fn no_term_is_too_long_for_a_clock() {
        assert_eq!(term(3_600), Duration::from_secs(3_600));
        assert!(std::time::Instant::now().checked_add(term(u64::MAX) + term(u64::MAX)).is_some());
    }
}
