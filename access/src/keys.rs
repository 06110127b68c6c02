use std::path::{Path, PathBuf};

use crate::files::{self, FileError};
use crate::secret::Secret;

/// How long each key is, in bytes.
const KEY_BYTES: usize = 32;

/// The file of [`Keys::heads`].
const HEADS_KEY: &str = "heads.key";

/// The file of [`Keys::proxy`].
const PROXY_KEY: &str = "proxy.key";

/// The file of [`Keys::query`].
const QUERY_KEY: &str = "query.key";

/// How the file of a role's public key ends.
const PUBLIC_EXTENSION: &str = "pub";

/// Most of a file that holds a public key, in bytes.
const PUBLIC_BYTES_MAX: u64 = 1024;

/// The keys of a gateway, one for each purpose so that no use of one says anything of another.
///
/// Each is 32 random bytes in a file of its own under `keys/`, readable by its owner alone.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Makes the fingerprints of masked values; losing it makes old and new fingerprints incomparable.
    pub mask: Secret,
    /// Makes the SCRAM exchange that a user gets who does not exist.
    pub mock: Secret,
    /// Authenticates the cancel keys that the gate hands out.
    pub cancel: Secret,
    /// The key by which proxies sign where their streams stand.
    pub heads: RoleKey,
    /// The key by which proxies sign control records.
    pub proxy: RoleKey,
    /// The key by which query services sign control records.
    pub query: RoleKey,
}

/// A key of one role: the seed where that role is served, else its public half is enough.
#[derive(Clone, Debug)]
pub enum RoleKey {
    /// What the key is made from.
    Seed(Secret),
    /// The public key, as text.
    Public(String),
}

/// Why the keys of a gateway could not be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file could not be read or written, or is there already.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file holds something else.
    #[error(
        "{} holds {found_bytes} bytes where a key has {KEY_BYTES}: restore it from a backup", path.display()
    )]
    NotAKey {
        /// Which file.
        path: PathBuf,
        /// How much is in it, in bytes.
        found_bytes: usize,
    },
    /// A gateway that was made before it signed, or one whose key was taken away.
    #[error(
        "there is no {}, which signs where the streams of this gateway stand: `retrace heads-key --create` makes one, \
         but if there was one before, restore it from a backup, since what it signed is not verified by another; where no \
         gate is, a file ending in .pub with what `retrace heads-key` prints does", .0.display()
    )]
    NoHeadsKey(PathBuf),
    /// Neither the key of a role nor its public half.
    #[error(
        "there is neither {} nor, beside it, a file ending in .pub with its public half: control records are signed by it; \
         `retrace control-keys --create` makes what is missing, or copy the file from where the gateway was made",
        .0.display()
    )]
    NoRoleKey(PathBuf),
}

impl Keys {
    /// Makes new keys in `dir/keys`. A key that is there already is an error and stays as it is.
    pub fn create(dir: &Path) -> Result<Self, KeyError> {
        files::private_dir(&folder(dir))?;
        Self::each(dir, create)
    }

    /// Reads the keys of `dir/keys`.
    pub fn load(dir: &Path) -> Result<Self, KeyError> {
        Self::each(dir, load)
    }

    /// Reads [`Keys::heads`] alone.
    pub fn load_heads(dir: &Path) -> Result<RoleKey, KeyError> {
        role_key(&heads_path(dir), load)
    }

    /// Reads [`Keys::proxy`] and [`Keys::query`] alone.
    pub fn load_control(dir: &Path) -> Result<[RoleKey; 2], KeyError> {
        let [proxy, query] = [PROXY_KEY, QUERY_KEY].map(|name| role_key(&folder(dir).join(name), load));
        Ok([proxy?, query?])
    }

    /// Reads [`Keys::query`] alone.
    pub fn load_query(dir: &Path) -> Result<RoleKey, KeyError> {
        role_key(&folder(dir).join(QUERY_KEY), load)
    }

    /// Makes the keys by which control records are signed, those that are missing in both halves.
    pub fn create_control(dir: &Path) -> Result<(), KeyError> {
        for name in [PROXY_KEY, QUERY_KEY] {
            let path = folder(dir).join(name);
            if !path.exists() && !path.with_extension(PUBLIC_EXTENSION).exists() {
                create(&path)?;
            }
        }
        Ok(())
    }

    /// Makes the key of the heads for a gateway that lacks it. One that is there already is an error and stays.
    pub fn create_heads(dir: &Path) -> Result<(), KeyError> {
        create(&heads_path(dir)).map(drop)
    }

    /// Makes a reviewer's own key, which is none of the gateway's, in a file of its own. One that is there already stays.
    pub fn create_review(file: &Path) -> Result<(), KeyError> {
        create(file).map(drop)
    }

    /// Reads a reviewer's own key.
    pub fn load_review(file: &Path) -> Result<Secret, KeyError> {
        load(file)
    }

    fn each(dir: &Path, key: impl Fn(&Path) -> Result<Secret, KeyError>) -> Result<Self, KeyError> {
        let folder = folder(dir);
        Ok(Self {
            mask: key(&folder.join("mask.key"))?,
            mock: key(&folder.join("mock.key"))?,
            cancel: key(&folder.join("cancel.key"))?,
            heads: role_key(&heads_path(dir), &key)?,
            proxy: role_key(&folder.join(PROXY_KEY), &key)?,
            query: role_key(&folder.join(QUERY_KEY), &key)?,
        })
    }
}

/// The public half if it is there, else the seed, which is made or read by `key`.
fn role_key(path: &Path, key: impl Fn(&Path) -> Result<Secret, KeyError>) -> Result<RoleKey, KeyError> {
    let public = path.with_extension(PUBLIC_EXTENSION);
    if path.exists() || !public.exists() {
        return key(path).map(RoleKey::Seed);
    }
    let (_, bytes) = files::read(&public, PUBLIC_BYTES_MAX)?;
    Ok(RoleKey::Public(String::from_utf8_lossy(&bytes).trim().to_owned()))
}

fn create(path: &Path) -> Result<Secret, KeyError> {
    let key = Secret::new(files::random::<KEY_BYTES>()?.to_vec());
    files::create(path, key.expose(), files::MODE_PRIVATE)?;
    Ok(key)
}

fn load(path: &Path) -> Result<Secret, KeyError> {
    if path.ends_with(HEADS_KEY) && !path.exists() {
        return Err(KeyError::NoHeadsKey(path.to_owned()));
    }
    if (path.ends_with(PROXY_KEY) || path.ends_with(QUERY_KEY)) && !path.exists() {
        return Err(KeyError::NoRoleKey(path.to_owned()));
    }
    let (_, bytes) = files::read(path, 2 * KEY_BYTES as u64)?;
    let key = Secret::new(bytes);
    files::warn_if_shared(path);
    match key.expose().len() {
        KEY_BYTES => Ok(key),
        found_bytes => Err(KeyError::NotAKey { path: path.to_owned(), found_bytes }),
    }
}

fn heads_path(dir: &Path) -> PathBuf {
    folder(dir).join(HEADS_KEY)
}

/// Where a gateway keeps what only it may read.
pub(crate) fn folder(dir: &Path) -> PathBuf {
    dir.join("keys")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn seed(key: &RoleKey) -> &Secret {
        match key {
            RoleKey::Seed(seed) => seed,
            RoleKey::Public(_) => panic!("only the public half"),
        }
    }

    #[test]
    fn keys_come_back_differ_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let made = Keys::create(dir.path()).unwrap();
        let read = Keys::load(dir.path()).unwrap();
        for (made, read) in [
            (&made.mask, &read.mask),
            (&made.mock, &read.mock),
            (&made.cancel, &read.cancel),
            (seed(&made.heads), seed(&read.heads)),
        ] {
            assert_eq!(made.expose(), read.expose());
            assert_eq!(made.expose().len(), 32);
        }
        assert!(made.mask.expose() != made.mock.expose() && made.mock.expose() != made.cancel.expose());
        assert!(seed(&made.heads).expose() != made.mask.expose());
        for name in ["mask.key", "mock.key", "cancel.key", "heads.key", "proxy.key", "query.key"] {
            assert_eq!(fs::metadata(folder(dir.path()).join(name)).unwrap().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(folder(dir.path())).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn keys_are_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let made = Keys::create(dir.path()).unwrap();
        assert!(matches!(Keys::create(dir.path()), Err(KeyError::File(FileError::Exists(_)))));
        assert_eq!(Keys::load(dir.path()).unwrap().mask.expose(), made.mask.expose());
    }

    #[test]
    fn a_short_or_missing_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        Keys::create(dir.path()).unwrap();
        let mock = folder(dir.path()).join("mock.key");
        fs::write(&mock, b"short").unwrap();
        assert!(Keys::load(dir.path()).unwrap_err().to_string().contains("mock.key holds 5 bytes"));
        fs::remove_file(&mock).unwrap();
        assert!(Keys::load(dir.path()).unwrap_err().to_string().contains("mock.key"));
    }

    #[test]
    fn of_a_role_that_is_served_elsewhere_the_public_half_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        Keys::create(dir.path()).unwrap();
        let file = |name: &str| folder(dir.path()).join(name);
        fs::remove_file(file("query.key")).unwrap();
        let error = Keys::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("query.key") && error.contains("control-keys --create"), "{error}");
        fs::write(file("query.pub"), "0a1b\n").unwrap();
        let keys = Keys::load(dir.path()).unwrap();
        assert!(matches!(keys.query, RoleKey::Public(text) if text == "0a1b"));
        assert!(matches!(keys.proxy, RoleKey::Seed(_)));
        Keys::create_control(dir.path()).unwrap();
        assert!(!file("query.key").exists(), "nothing is missing");
        fs::remove_file(file("query.pub")).unwrap();
        Keys::create_control(dir.path()).unwrap();
        assert!(matches!(Keys::load(dir.path()).unwrap().query, RoleKey::Seed(_)));
    }

    #[test]
    fn a_gateway_without_a_key_for_heads_is_told_how_to_get_one() {
        let dir = tempfile::tempdir().unwrap();
        Keys::create(dir.path()).unwrap();
        assert!(matches!(Keys::create_heads(dir.path()), Err(KeyError::File(FileError::Exists(_)))));
        fs::remove_file(heads_path(dir.path())).unwrap();
        let error = Keys::load(dir.path()).unwrap_err();
        assert!(matches!(error, KeyError::NoHeadsKey(_)), "{error}");
        assert!(error.to_string().contains("heads-key --create"), "{error}");
        Keys::create_heads(dir.path()).unwrap();
        assert_eq!(seed(&Keys::load(dir.path()).unwrap().heads).expose().len(), 32);
        assert_eq!(fs::metadata(heads_path(dir.path())).unwrap().mode() & 0o777, 0o600);
    }
}
