//! The principals of a gateway and their tokens, as every login asks for them.

mod principals;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use subtle::ConstantTimeEq;

use crate::files::Stamp;
use crate::principal::{Authenticated, Principal};
use crate::scram::ScramServer;
use crate::secret::Secret;
use crate::time;
use crate::token::{ITERATIONS, SALT_BYTES, TokenEntry, TokenText};
use crate::token_file::{TokenError, TokenFile};
use crate::verifier::{hmac, sha256};

pub use principals::Principals;

/// Who may come in. Clones share one directory.
///
/// The principals are those of the configuration that was read last. The tokens are those of the file at the moment of the
/// login: before each, the file is looked at, and read again if it changed. While it cannot be read nobody comes in.
#[derive(Clone)]
pub struct Directory {
    shared: Arc<Shared>,
}

/// Why a directory could not be made of a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The tokens cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// Two principals have one name, so a login would not say which it is.
    #[error("two principals are named {0}: rename one of them")]
    Duplicate(String),
    /// A principal has a name that no principal can have.
    #[error("principal {name:?}: {reason}")]
    Name {
        /// The name as configured.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A principal is neither human nor agent nor service.
    #[error("principal {0} has no kind: say human, agent or service")]
    Kind(String),
}

/// Why a login was refused; all that a client may learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No principal of this name, or not its token, or one that is expired or revoked: one answer to all of them.
    #[error("the name or the token is wrong, or the token is expired or revoked")]
    Credential,
    /// The gateway cannot read its tokens. Its own log says why.
    #[error(
        "the gateway cannot check tokens at the moment: try again, or ask who runs it to look into its log"
    )]
    Unavailable,
}

impl Directory {
    /// A directory of these principals. `mock_key` makes the exchange of users that do not exist; it must stay the same
    /// from start to start, or such users show by their changing salt.
    pub fn new(
        principals: Vec<Principal>,
        tokens: TokenFile,
        mock_key: Secret,
    ) -> Result<Self, DirectoryError> {
        let principals = RwLock::new(Principals::new(principals)?);
        let (stamp, entries) = tokens.read()?;
        let cache = Mutex::new(Cache::Read { stamp, entries: entries.into() });
        let shared = Shared { principals, tokens, mock_key, cache, revoked: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// From now on these are the principals. Who has come in stays.
    pub fn replace(&self, principals: Principals) {
        *self.shared.principals.write().unwrap_or_else(PoisonError::into_inner) = principals;
    }

    /// The principal of this name, if there is one now.
    #[must_use]
    pub fn principal(&self, name: &str) -> Option<Arc<Principal>> {
        self.shared.principals.read().unwrap_or_else(PoisonError::into_inner).named(name)
    }

    /// Begins a SCRAM exchange. A user that does not exist gets one that looks like any other and always fails.
    #[must_use]
    pub fn scram(&self, user: &str) -> ScramServer {
        ScramServer::new(self.clone(), user.to_owned())
    }

    /// Checks a token as it is, for protocols whose clients show theirs.
    pub fn bearer(&self, token: &str) -> Result<Authenticated, Refused> {
        let entries = self.tokens_now()?;
        let text = TokenText::parse(token).ok_or(Refused::Credential)?;
        let entry = entries.iter().find(|entry| entry.id == text.id).ok_or(Refused::Credential)?;
        let matches = sha256(text.secret.as_bytes()).ct_eq(&entry.verifier.secret_sha256);
        if !bool::from(matches) || !entry.is_live(time::now_unix_s()) {
            return Err(Refused::Credential);
        }
        self.authenticated(entry).ok_or(Refused::Credential)
    }

    /// Salt and iterations to send to a user. They come from any token the user ever had, so that they tell nothing about
    /// which of them are live.
    pub(crate) fn challenge(&self, user: &str) -> Result<([u8; SALT_BYTES], u32), Refused> {
        let entries = self.tokens_now()?;
        let mock = self.mock_salt(user);
        let entry = entries.iter().find(|entry| entry.principal == user);
        let known = entry.filter(|_| self.principal(user).is_some());
        Ok(known.map_or((mock, ITERATIONS), |entry| (entry.salt, entry.iterations)))
    }

    /// The tokens in the file as it is now.
    pub(crate) fn tokens_now(&self) -> Result<Arc<[TokenEntry]>, Refused> {
        // A poisoned cache is used on: its only states are a file that was read whole, and a failure.
        let mut cache = self.shared.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.refresh(&self.shared.tokens);
        match &*cache {
            Cache::Read { entries, .. } => Ok(Arc::clone(entries)),
            Cache::Broken { .. } => Err(Refused::Unavailable),
        }
    }

    /// Takes a token no longer, whatever the file says of it. For as long as the process lives: who orders it sees to it
    /// that the file comes to say so too.
    pub fn revoke(&self, token_id: &str) {
        let mut revoked = self.shared.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        revoked.insert(token_id.to_owned());
    }

    /// Whether [`Directory::revoke`] named this token.
    #[must_use]
    pub(crate) fn has_revoked(&self, token_id: &str) -> bool {
        self.shared.revoked.lock().unwrap_or_else(PoisonError::into_inner).contains(token_id)
    }

    /// Whether someone who proved who they are would still be let in, and with which rights: the token may be revoked or
    /// expired by now, and the configuration another one.
    pub fn still(&self, who: &Authenticated) -> Result<Authenticated, Refused> {
        let entries = self.tokens_now()?;
        let entry = entries.iter().find(|entry| entry.id == who.token_id).ok_or(Refused::Credential)?;
        if !entry.is_live(time::now_unix_s()) || entry.principal != who.principal.name {
            return Err(Refused::Credential);
        }
        self.authenticated(entry).ok_or(Refused::Credential)
    }

    /// The principal of this token, if the file has it.
    pub fn principal_of(&self, token_id: &str) -> Result<Option<String>, Refused> {
        let entries = self.tokens_now()?;
        Ok(entries.iter().find(|entry| entry.id == token_id).map(|entry| entry.principal.clone()))
    }

    /// The principal of a token that was just proved; `None` if the configuration does not name it any more, or the token
    /// was revoked elsewhere.
    pub(crate) fn authenticated(&self, entry: &TokenEntry) -> Option<Authenticated> {
        if self.has_revoked(&entry.id) {
            return None;
        }
        let principal = self.principal(&entry.principal)?;
        Some(Authenticated { principal, token_id: entry.id.clone() })
    }

    fn mock_salt(&self, user: &str) -> [u8; SALT_BYTES] {
        let mac = hmac(self.shared.mock_key.expose(), &[b"retrace scram salt\0", user.as_bytes()]);
        *mac.first_chunk().expect("a salt is shorter than a MAC")
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("tokens", &self.shared.tokens).finish_non_exhaustive()
    }
}

struct Shared {
    principals: RwLock<Principals>,
    tokens: TokenFile,
    mock_key: Secret,
    cache: Mutex<Cache>,
    /// Ids of tokens that control records revoked.
    revoked: Mutex<HashSet<String>>,
}

/// The file of tokens as it was last seen.
enum Cache {
    Read { stamp: Stamp, entries: Arc<[TokenEntry]> },
    Broken { reason: String },
}

impl Cache {
    /// Looks at the file, and reads it if it is not the one known. A failure is logged once, and tried again each time.
    fn refresh(&mut self, tokens: &TokenFile) {
        let seen = Stamp::of_path(tokens.path());
        if let (Self::Read { stamp, .. }, Ok(seen)) = (&*self, &seen)
            && stamp == seen
        {
            return;
        }
        match seen.map_err(TokenError::from).and_then(|_| tokens.read()) {
            Ok((stamp, entries)) => *self = Self::Read { stamp, entries: entries.into() },
            Err(error) => {
                let reason = error.to_string();
                if !matches!(self, Self::Broken { reason: known } if *known == reason) {
                    tracing::error!(%reason, "tokens cannot be read, so every login is refused until they can");
                }
                *self = Self::Broken { reason };
            }
        }
    }
}

#[cfg(test)]
mod tests;
