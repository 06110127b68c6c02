use std::time::Duration;

use anyhow::bail;
use retrace_access::{TokenEntry, TokenFile};
use retrace_replay::table::{Heading, Table};
use retrace_replay::time;

use crate::args::Token;
use crate::clock;
use crate::config::Config;
use crate::output::{self, Output};

pub(crate) fn token(config: &Config, command: Token) -> anyhow::Result<()> {
    let tokens = TokenFile::load(&config.tokens_file())?;
    match command {
        Token::Create { principal, ttl } => create(config, &tokens, &principal, ttl),
        Token::List => list(&tokens),
        Token::Revoke { id } => revoke(&tokens, &id),
    }
}

/// Prints the token alone to stdout, so that it can be piped to where it is kept.
fn create(config: &Config, tokens: &TokenFile, principal: &str, ttl: Duration) -> anyhow::Result<()> {
    if !config.principals.iter().any(|known| known.name == principal) {
        let known: Vec<&str> = config.principals.iter().map(|known| known.name.as_str()).collect();
        bail!(
            "no [[principal]] in {} is named `{principal}`; it has: {}",
            config.file().display(),
            known.join(", ")
        );
    }
    let (token, entry) = tokens.create(principal, ttl, clock::now_unix_s())?;
    let mut out = Output::stdout();
    out.line(String::from_utf8_lossy(token.expose()))?;
    out.flush()?;
    output::remark(format_args!(
        "token {} of {principal}, valid until {}; it is shown this once",
        entry.id,
        time_of(entry.expires_unix_s)
    ));
    Ok(())
}

fn list(tokens: &TokenFile) -> anyhow::Result<()> {
    let now_unix_s = clock::now_unix_s();
    let headings = ["id", "principal", "created", "expires", "state"];
    let headings = headings.map(|name| Heading { name: name.to_owned(), right: false });
    let rows: Vec<_> = tokens.list()?.iter().map(|entry| row(entry, now_unix_s)).collect();
    let mut out = Output::stdout();
    let mut text = String::new();
    Table { headings: &headings, rows: &rows }.draw(&out.look(), &mut text);
    out.text(&text)?;
    out.flush()?;
    Ok(())
}

fn row(entry: &TokenEntry, now_unix_s: i64) -> Vec<Option<String>> {
    let state = match entry.revoked_unix_s {
        Some(revoked) => format!("revoked {}", time_of(revoked)),
        None if entry.is_live(now_unix_s) => "valid".to_owned(),
        None => "expired".to_owned(),
    };
    let (created, expires) = (time_of(entry.created_unix_s), time_of(entry.expires_unix_s));
    [entry.id.clone(), entry.principal.clone(), created, expires, state].map(Some).into()
}

fn revoke(tokens: &TokenFile, id: &str) -> anyhow::Result<()> {
    let entry = tokens.revoke(id, clock::now_unix_s())?;
    output::remark(format_args!("token {} of {} is revoked", entry.id, entry.principal));
    Ok(())
}

fn time_of(unix_s: i64) -> String {
    time::rfc3339(unix_s.saturating_mul(1_000_000)).replace(".000000Z", "Z")
}
