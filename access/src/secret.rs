mod source;

use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::files::{self, FileError, Stamp};

/// The longest secret a file may hold, in bytes: room for a private key with its chain.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

pub use source::SecretSource;

/// Bytes that must not be seen: they do not print, and are overwritten in memory when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Whether the other one has the same bytes, told in a time that does not depend on them.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// The bytes themselves. The name is there to be looked for in a review.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where a secret is to be found: a configuration names it and never holds it.
///
/// In TOML `{ env = "NAME" }` or `{ file = "path" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// In the environment variable of this name.
    Env(String),
    /// In a file; a relative path counts from the folder of the configuration.
    File(PathBuf),
}

/// Why a referenced secret cannot be had. Names the place, never what is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The variable is not set.
    #[error("the environment variable {0} is not set: set it for this process, or name a file instead")]
    EnvUnset(String),
    /// The file cannot be read.
    #[error("the secret is not readable: {0}")]
    File(#[from] FileError),
    /// There is nothing in it; an empty credential is a mistake rather than a choice.
    #[error("the secret in {0} is empty")]
    Empty(String),
}

impl SecretRef {
    /// Fetches the secret. One line end at the end of a file is not part of it.
    pub fn resolve(&self, base_dir: &Path) -> Result<Secret, SecretError> {
        let (bytes, place) = match self {
            Self::Env(name) => {
                let value = std::env::var_os(name).ok_or_else(|| SecretError::EnvUnset(name.clone()))?;
                (value.into_vec(), format!("the environment variable {name}"))
            }
            Self::File(path) => return Ok(read_secret(&base_dir.join(path))?.1),
        };
        if bytes.is_empty() {
            return Err(SecretError::Empty(place));
        }
        Ok(Secret::new(bytes))
    }
}

/// The secret in a file, and which state of the file that was.
pub(crate) fn read_secret(path: &Path) -> Result<(Stamp, Secret), SecretError> {
    let (stamp, mut bytes) = files::read(path, SECRET_FILE_BYTES_MAX)?;
    files::warn_if_shared(path);
    trim_line_end(&mut bytes);
    if bytes.is_empty() {
        return Err(SecretError::Empty(path.display().to_string()));
    }
    Ok((stamp, Secret::new(bytes)))
}

fn trim_line_end(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretRefVisitor)
    }
}

const REFERENCE_EXPECTED: &str = "a secret by reference: { env = \"NAME\" } or { file = \"path\" }";

/// By hand, so that a password written where its reference belongs is refused without being repeated in the error.
struct SecretRefVisitor;

impl<'de> Visitor<'de> for SecretRefVisitor {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REFERENCE_EXPECTED)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretRef, E> {
        Err(E::custom(format_args!("a secret does not stand here itself; expected {REFERENCE_EXPECTED}")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            let reference = match key.as_str() {
                "env" => SecretRef::Env(map.next_value()?),
                "file" => SecretRef::File(map.next_value()?),
                "vault_kv" => {
                    return Err(de::Error::custom(
                        "only the password of a target can come from Vault: use { env = \"NAME\" } or { file = \"path\" }",
                    ));
                }
                _ => return Err(de::Error::unknown_field(&key, &["env", "file"])),
            };
            if found.replace(reference).is_some() {
                return Err(de::Error::custom("either env or file, not both"));
            }
        }
        found.ok_or_else(|| de::Error::custom(format_args!("expected {REFERENCE_EXPECTED}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Target {
        password: SecretRef,
    }

    fn parse(text: &str) -> Result<SecretRef, String> {
        let parsed = toml::from_str::<Target>(text).map_err(|error| error.message().to_owned())?;
        Ok(parsed.password)
    }

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "[secret] Some([secret])");
    }

    #[test]
    fn references_are_read_and_everything_else_is_explained() {
        assert_eq!(parse("password = { env = 'A' }").unwrap(), SecretRef::Env("A".into()));
        assert_eq!(parse("password = { file = 'a/b' }").unwrap(), SecretRef::File("a/b".into()));
        assert!(parse("password = { env = 'A', file = 'b' }").unwrap_err().contains("not both"));
        assert!(parse("password = { vault = 'A' }").unwrap_err().contains("vault"));
        assert!(parse("password = { vault_kv = 's/data/a' }").unwrap_err().contains("{ file ="));
        assert!(parse("password = {}").unwrap_err().contains("by reference"));
    }

    #[test]
    fn a_password_in_place_of_a_reference_is_not_repeated() {
        let error = parse("password = 'hunter2'").unwrap_err();
        assert!(error.contains("{ env =") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn one_line_end_of_a_file_is_not_part_of_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        for (content, expect) in
            [("a b\n", "a b"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a", " a"), ("a\r", "a\r")]
        {
            std::fs::write(dir.path().join("s"), content).unwrap();
            let secret = SecretRef::File("s".into()).resolve(dir.path()).unwrap();
            assert_eq!(secret.expose(), expect.as_bytes());
        }
    }

    #[test]
    fn errors_name_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let missing = SecretRef::File("gone".into()).resolve(dir.path()).unwrap_err().to_string();
        assert!(missing.contains("gone"), "{missing}");
        let unset = SecretRef::Env("RETRACE_TEST_UNSET".into()).resolve(dir.path()).unwrap_err().to_string();
        assert!(unset.contains("RETRACE_TEST_UNSET"), "{unset}");
        std::fs::write(dir.path().join("void"), "\n").unwrap();
        let empty = SecretRef::File("void".into()).resolve(dir.path()).unwrap_err();
        assert!(matches!(empty, SecretError::Empty(place) if place.ends_with("void")));
    }

    #[test]
    fn the_environment_is_a_place() {
        let path = SecretRef::Env("PATH".into()).resolve(Path::new("")).unwrap();
        assert_eq!(path.expose(), std::env::var("PATH").unwrap().as_bytes());
    }
}
