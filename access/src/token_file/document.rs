//! The text of the file of tokens: TOML that a person can read, checked line by line.

use std::collections::{HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::TOKENS_MAX;
use crate::principal::check_name;
use crate::time;
use crate::token::{self, ITERATIONS, SALT_BYTES, TokenEntry};
use crate::verifier::Verifier;

/// The rounds an entry may ask of a client; above the maximum some clients refuse.
const ITERATIONS_ALLOWED: std::ops::RangeInclusive<u32> = ITERATIONS..=100_000;

/// The entries as text, without a heading.
pub(super) fn print(entries: &[TokenEntry]) -> String {
    let document = DocumentOut { token: entries.iter().map(Row::of).collect() };
    toml::to_string(&document).expect("rows of texts and numbers are TOML")
}

/// The entries of a file's text, or the line and reason why it has none.
pub(super) fn parse(text: &str) -> Result<Vec<TokenEntry>, (usize, String)> {
    let line = |at| line_at(text.as_bytes(), at);
    let document: Document = toml::from_str(text)
        .map_err(|error| (line(error.span().map_or(0, |span| span.start)), error.message().to_owned()))?;
    if document.token.len() > TOKENS_MAX {
        return Err((1, format!("more than {TOKENS_MAX} tokens: take out entries that are long revoked")));
    }
    let mut entries = Vec::with_capacity(document.token.len());
    let mut checks = Checks::default();
    for row in document.token {
        let line = line(row.span().start);
        let entry = row.into_inner().into_entry().map_err(|reason| (line, reason))?;
        checks.admit(&entry).map_err(|reason| (line, reason.to_owned()))?;
        entries.push(entry);
    }
    Ok(entries)
}

/// The file as it is read: rows with their places.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    token: Vec<toml::Spanned<Row>>,
}

/// The file as it is written.
#[derive(Serialize)]
struct DocumentOut {
    token: Vec<Row>,
}

/// An entry as text: times in RFC 3339, bytes in base64.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    principal: String,
    created: String,
    expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
    salt: String,
    iterations: u32,
    stored_key: String,
    server_key: String,
    secret_sha256: String,
}

impl Row {
    fn of(entry: &TokenEntry) -> Self {
        let text =
            |unix_s| time::to_text(unix_s).expect("times are checked when a token is made, read or revoked");
        Self {
            id: entry.id.clone(),
            principal: entry.principal.clone(),
            created: text(entry.created_unix_s),
            expires: text(entry.expires_unix_s),
            revoked: entry.revoked_unix_s.map(text),
            salt: STANDARD.encode(entry.salt),
            iterations: entry.iterations,
            stored_key: STANDARD.encode(entry.verifier.stored_key),
            server_key: STANDARD.encode(entry.verifier.server_key),
            secret_sha256: STANDARD.encode(entry.verifier.secret_sha256),
        }
    }

    fn into_entry(self) -> Result<TokenEntry, String> {
        if !token::is_id(&self.id) {
            return Err("id must be eight hexadecimal digits in lower case".to_owned());
        }
        check_name(&self.principal)?;
        if !ITERATIONS_ALLOWED.contains(&self.iterations) {
            return Err(format!("iterations must be from {ITERATIONS} to {}", ITERATIONS_ALLOWED.end()));
        }
        Ok(TokenEntry {
            created_unix_s: seconds("created", &self.created)?,
            expires_unix_s: seconds("expires", &self.expires)?,
            revoked_unix_s: self.revoked.as_deref().map(|text| seconds("revoked", text)).transpose()?,
            salt: bytes("salt", &self.salt)?,
            verifier: Verifier {
                stored_key: bytes("stored_key", &self.stored_key)?,
                server_key: bytes("server_key", &self.server_key)?,
                secret_sha256: bytes("secret_sha256", &self.secret_sha256)?,
            },
            id: self.id,
            principal: self.principal,
            iterations: self.iterations,
        })
    }
}

fn seconds(field: &str, text: &str) -> Result<i64, String> {
    time::from_text(text).ok_or_else(|| format!("{field} must be a time like \"2026-11-24T21:31:00Z\""))
}

fn bytes<const N: usize>(field: &str, text: &str) -> Result<[u8; N], String> {
    let decoded = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    decoded.ok_or_else(|| format!("{field} must be {N} bytes in base64"))
}

/// What must hold between the entries of one file.
#[derive(Default)]
struct Checks {
    ids: HashSet<String>,
    salts: HashMap<String, ([u8; SALT_BYTES], u32)>,
}

impl Checks {
    fn admit(&mut self, entry: &TokenEntry) -> Result<(), &'static str> {
        if !self.ids.insert(entry.id.clone()) {
            return Err("two tokens have this id: take one of them out");
        }
        let own = (entry.salt, entry.iterations);
        if *self.salts.entry(entry.principal.clone()).or_insert(own) != own {
            return Err(
                "all tokens of a principal share salt and iterations, and this one differs: take it out",
            );
        }
        Ok(())
    }
}

/// The line, counted from 1, in which the byte stands.
pub(super) fn line_at(text: &[u8], at: usize) -> usize {
    1 + text.iter().take(at).filter(|byte| **byte == b'\n').count()
}
