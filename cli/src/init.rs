use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use retrace_access::{Ca, Keys, Secret, TOKEN_TTL_DEFAULT, TokenFile};

use crate::clock;
use crate::config::Config;
use crate::output::Output;

/// What a new folder's configuration says.
const TEMPLATE: &str = include_str!("init/retrace.toml");

/// The principal that the first token is for.
const PRINCIPAL: &str = "dev";

/// Names that the server's certificate is for: this machine's to itself.
const SERVER_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Makes a folder to start from. Nothing that is there is overwritten; the configuration comes last, so a folder that has
/// one is complete.
pub(crate) fn init(dir: &Path) -> anyhow::Result<()> {
    let file = dir.join("retrace.toml");
    if file.exists() {
        bail!("{} is there already: choose another folder", file.display());
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    Keys::create(dir)?;
    let names = SERVER_NAMES.map(str::to_owned);
    Ca::create(dir)?.issue_server(&names)?;
    let tokens = TokenFile::init(&dir.join("tokens.toml"))?;
    let (token, _) = tokens.create(PRINCIPAL, TOKEN_TTL_DEFAULT, clock::now_unix_s())?;
    create(&dir.join("dev.token"), 0o600, &line(&token))?;
    create(&file, 0o644, TEMPLATE.as_bytes())?;
    let config = Config::load(&file)?;
    let mut out = Output::stdout();
    out.text(&next_steps(dir, &config))?;
    out.flush()?;
    Ok(())
}

fn line(token: &Secret) -> Vec<u8> {
    [token.expose(), b"\n"].concat()
}

fn create(path: &Path, mode: u32, content: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn next_steps(dir: &Path, config: &Config) -> String {
    let dir = dir.display();
    let port = config.proxy_listen.port();
    let door = config.door_listen.map_or_else(String::new, |door| {
        let port = door.port();
        format!(
            "
  6. PGPASSWORD=$(cat {dir}/dev.token) psql \\
       \"host=localhost port={port} dbname=retrace user={PRINCIPAL} sslmode=verify-full sslrootcert={dir}/ca.pem\"
     asks the evidence; \\d shows what there is."
        )
    });
    format!(
        "\
{dir} has a configuration, keys, a CA, and a token of the principal `{PRINCIPAL}`, valid for 90 days.

Next:
  1. Name your database in {dir}/retrace.toml: take the signs `#|` off the sample target and mask.
  2. retrace check --config {dir}/retrace.toml
  3. retrace up --config {dir}/retrace.toml
  4. PGPASSWORD=$(cat {dir}/dev.token) psql \\
       \"host=localhost port={port} dbname=shop user={PRINCIPAL} sslmode=verify-full sslrootcert={dir}/ca.pem\"
     where dbname is the name of the target.
  5. retrace sessions --config {dir}/retrace.toml
     retrace replay last --config {dir}/retrace.toml{door}
"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use retrace_access::Directory;

    use super::*;

    #[test]
    fn a_new_folder_is_complete_and_its_token_is_private_and_good() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("gate");
        init(&dir).unwrap();
        let config = Config::load(&dir.join("retrace.toml")).unwrap();
        crate::check::check(&config).unwrap();
        let token = dir.join("dev.token");
        assert_eq!(fs::metadata(&token).unwrap().mode() & 0o777, 0o600);
        let keys = Keys::load(&dir).unwrap();
        let tokens = TokenFile::load(&config.tokens_file()).unwrap();
        let directory = Directory::new(config.principals.clone(), tokens, keys.mock).unwrap();
        let caller = directory.bearer(fs::read_to_string(token).unwrap().trim()).unwrap();
        assert_eq!(caller.principal.name, PRINCIPAL);
        assert_eq!(caller.principal.evidence, retrace_access::EvidenceRight::All);
    }

    #[test]
    fn a_folder_that_has_a_configuration_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("retrace.toml"), "# mine").unwrap();
        let error = init(dir.path()).unwrap_err().to_string();
        assert!(error.contains("retrace.toml is there already"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_sample_target_and_mask_hold_once_their_signs_are_off() {
        let marked = TEMPLATE.lines().map(|line| line.strip_prefix("#| ").unwrap_or(line));
        let text = marked.collect::<Vec<_>>().join("\n");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("retrace.toml");
        fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap();
        assert_eq!((config.targets.len(), config.masks.len(), config.principals.len()), (1, 2, 1));
        assert_eq!((config.mask_rules("shop").len(), config.column_masks("shop").len()), (1, 1));
    }
}
