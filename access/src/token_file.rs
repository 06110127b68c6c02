//! The file of tokens: made, listed and revoked here, by any process; read by every login.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::files::{self, FileError, Stamp};
use crate::principal::check_name;
use crate::secret::Secret;
use crate::time;
use crate::token::{self, ITERATIONS, TokenEntry};

mod document;

/// How long a token lives if nothing else is asked for: 90 days.
pub const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How many tokens of one principal can be live at the same time: each is tried at each login.
pub const TOKENS_LIVE_MAX: usize = 8;

/// The longest life of a token: ten years, in seconds.
const TOKEN_TTL_S_MAX: i64 = 10 * 366 * 24 * 60 * 60;
/// How many tokens one file holds, live or not.
const TOKENS_MAX: usize = 10_000;
/// The largest file of tokens, in bytes: `TOKENS_MAX` entries of some 450 bytes, and room for comments.
const TOKEN_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

const HEADING: &str = "# The tokens of this gateway: how to check them, not the tokens themselves.\n\
                       # Written by `retrace token`; a running gateway sees a change at the next login.\n\n";

/// The file in which a gateway keeps its tokens.
///
/// This is a name, not a copy: every call reads the file anew, and every change is made under a lock beside it and lands
/// in one step. So the command line and a running gateway can use one file.
#[derive(Clone, Debug)]
pub struct TokenFile {
    path: PathBuf,
}

/// Why a token could not be made, listed or revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file holds something else than tokens. Nothing is guessed: until it is repaired no login succeeds.
    #[error("{}:{line}: {reason}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// Where in it, counted from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// The principal has [`TOKENS_LIVE_MAX`] live tokens.
    #[error("{principal} has {TOKENS_LIVE_MAX} live tokens, which is the most: revoke one first")]
    TooManyLive {
        /// Whose they are.
        principal: String,
    },
    /// The file holds as many tokens as it can.
    #[error(
        "{} holds {TOKENS_MAX} tokens, which is the most: take out entries that are long revoked", .0.display()
    )]
    Full(PathBuf),
    /// No token has this id.
    #[error("no token has this id: `retrace token list` shows those there are")]
    UnknownId,
    /// The life asked for is not between a second and ten years.
    #[error("a token lives between one second and ten years")]
    Ttl,
    /// No principal can have this name.
    #[error("{0}")]
    PrincipalName(&'static str),
}

impl TokenFile {
    /// Makes an empty file of tokens, readable by its owner alone. One that is there already is an error.
    pub fn init(path: &Path) -> Result<Self, TokenError> {
        files::create(path, HEADING.as_bytes(), files::MODE_PRIVATE)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Takes a file of tokens that is there, and checks that it can be read.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let file = Self { path: path.to_owned() };
        file.read()?;
        files::warn_if_shared(path);
        Ok(file)
    }

    /// Makes a token for the principal, live from `now_unix_s` for `ttl`. The text is returned here and kept nowhere.
    pub fn create(
        &self,
        principal: &str,
        ttl: Duration,
        now_unix_s: i64,
    ) -> Result<(Secret, TokenEntry), TokenError> {
        check_name(principal).map_err(TokenError::PrincipalName)?;
        let expires_unix_s = expiry(ttl, now_unix_s)?;
        let _lock = self.lock()?;
        let (_, mut entries) = self.read()?;
        if entries.len() >= TOKENS_MAX {
            return Err(TokenError::Full(self.path.clone()));
        }
        let own = || entries.iter().filter(|entry| entry.principal == principal);
        if own().filter(|entry| entry.is_live(now_unix_s)).count() >= TOKENS_LIVE_MAX {
            return Err(TokenError::TooManyLive { principal: principal.to_owned() });
        }
        let (salt, iterations) = match own().next() {
            Some(entry) => (entry.salt, entry.iterations),
            None => (files::random()?, ITERATIONS),
        };
        let id = unused_id(&entries)?;
        let (text, verifier) = token::new_token(&id, &salt, iterations)?;
        let entry = TokenEntry {
            id,
            principal: principal.to_owned(),
            created_unix_s: now_unix_s,
            expires_unix_s,
            revoked_unix_s: None,
            salt,
            iterations,
            verifier,
        };
        entries.push(entry.clone());
        self.write(&entries)?;
        Ok((text, entry))
    }

    /// Every token in the file, live or not, oldest first.
    pub fn list(&self) -> Result<Vec<TokenEntry>, TokenError> {
        Ok(self.read()?.1)
    }

    /// Revokes a token from now on, for good. One that is revoked already keeps its time.
    pub fn revoke(&self, id: &str, now_unix_s: i64) -> Result<TokenEntry, TokenError> {
        time::to_text(now_unix_s).ok_or(TokenError::Ttl)?;
        let _lock = self.lock()?;
        let (_, mut entries) = self.read()?;
        let entry = entries.iter_mut().find(|entry| entry.id == id).ok_or(TokenError::UnknownId)?;
        entry.revoked_unix_s.get_or_insert(now_unix_s);
        let revoked = entry.clone();
        self.write(&entries)?;
        Ok(revoked)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entries, and which state of the file they are.
    pub(crate) fn read(&self) -> Result<(Stamp, Vec<TokenEntry>), TokenError> {
        let (stamp, bytes) = files::read(&self.path, TOKEN_FILE_BYTES_MAX)?;
        let content = |(line, reason)| TokenError::Content { path: self.path.clone(), line, reason };
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            content((document::line_at(&bytes, error.valid_up_to()), "this is not UTF-8".to_owned()))
        })?;
        Ok((stamp, document::parse(text).map_err(content)?))
    }

    fn write(&self, entries: &[TokenEntry]) -> Result<(), TokenError> {
        let text = format!("{HEADING}{}", document::print(entries));
        Ok(files::replace(&self.path, text.as_bytes(), files::MODE_PRIVATE)?)
    }

    /// Waits until no other process changes the file. A file of its own, since the tokens' is replaced at each change.
    fn lock(&self) -> Result<File, TokenError> {
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(files::MODE_PRIVATE)
            .open(&path)
            .map_err(FileError::io("create", &path))?;
        file.lock().map_err(FileError::io("lock", &path))?;
        Ok(file)
    }
}

fn expiry(ttl: Duration, now_unix_s: i64) -> Result<i64, TokenError> {
    let ttl_s = i64::try_from(ttl.as_secs()).map_err(|_| TokenError::Ttl)?;
    if !(1..=TOKEN_TTL_S_MAX).contains(&ttl_s) {
        return Err(TokenError::Ttl);
    }
    let expires_unix_s = now_unix_s.checked_add(ttl_s).ok_or(TokenError::Ttl)?;
    time::to_text(now_unix_s).and(time::to_text(expires_unix_s)).ok_or(TokenError::Ttl)?;
    Ok(expires_unix_s)
}

fn unused_id(entries: &[TokenEntry]) -> Result<String, TokenError> {
    loop {
        let id = token::new_id()?;
        if entries.iter().all(|entry| entry.id != id) {
            return Ok(id);
        }
    }
}

#[cfg(test)]
mod tests;
