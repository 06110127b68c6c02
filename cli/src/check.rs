use retrace_access::{Ca, Directory, Keys, ServerIdentity, TokenFile, tls};
use retrace_policy::rules::SCHEMA;
use retrace_vault::Settings;

use crate::config::{Config, Log, TargetCredential};
use crate::output::{self, Output};

/// Reads everything that `up` will need. What may still differ when `up` runs, a secret in its environment or the
/// certificate of a target, is a warning here.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    let keys = Keys::load(config.dir())?;
    Ca::load(config.dir())?;
    let identity = ServerIdentity::in_dir(config.dir());
    tls::server_config(&identity.certificate, &identity.key)?;
    let tokens = TokenFile::load(&config.tokens_file())?;
    Directory::new(config.principals.clone(), tokens, keys.mock)?;
    let warnings = warnings(config);
    for warning in &warnings {
        output::remark(format_args!("warning: {warning}"));
    }
    let mut out = Output::stdout();
    out.line(format_args!(
        "{}: {}, {}, {}, {}, {}",
        config.file().display(),
        counted(config.principals.len(), "principal"),
        counted(config.targets.len(), "target"),
        counted(config.masks.len(), "mask"),
        counted(config.policy.rules(), "rule"),
        counted(warnings.len(), "warning")
    ))?;
    out.flush()?;
    Ok(())
}

/// Prints what rules may speak of.
pub(crate) fn schema() -> anyhow::Result<()> {
    let mut out = Output::stdout();
    out.line(format_args!("{}", SCHEMA.trim_end()))?;
    out.flush()?;
    Ok(())
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for target in &config.targets {
        match &target.credential {
            TargetCredential::Local { password, .. } => {
                let error = password.resolve(config.dir()).err();
                warnings.extend(error.map(|error| format!("target `{}`: password: {error}", target.name)));
            }
            from_vault @ TargetCredential::Vault(_) => {
                let field = from_vault.field();
                warnings.push(format!("target `{}`: {field}: from Vault, not looked at", target.name));
            }
        }
        if let Some(mode) = &target.tls
            && let Err(error) = mode.client_config(config.dir())
        {
            warnings.push(format!("target `{}`: tls: {error}", target.name));
        }
        if config.mask_rules(&target.name).is_empty() {
            warnings.push(format!("target `{}`: no [[mask]] applies, so nothing is hidden", target.name));
        }
    }
    warnings.extend(config.vault.iter().flat_map(of_vault));
    let log = match &config.log {
        Log::Kafka(kafka) => kafka.resolve(config.dir()).err(),
        Log::Embedded(_) => None,
    };
    let lake = config.lake.resolve(config.dir()).err();
    for (table, error) in [("[log.kafka.options]", log), ("[lake.options]", lake)] {
        warnings.extend(error.map(|error| format!("{table} {error}")));
    }
    if config.targets.is_empty() {
        warnings.push("there is no [[target]], so nobody can reach anything".to_owned());
    }
    warnings
}

/// What the gate's way into the secret store lacks.
fn of_vault(vault: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some((what, secret)) = vault.login.secret()
        && let Err(error) = secret.resolve(&vault.base_dir)
    {
        warnings.push(format!("[vault] {what}: {error}"));
    }
    if vault.address.is_encrypted()
        && let Err(error) = vault.tls.client_config(&vault.base_dir)
    {
        warnings.push(format!("[vault] tls: {error}"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_up_would_miss_is_a_warning_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[[target]]\nname = 'shop'\nprotocol = 'postgres'\naddress = 'localhost:1'\ndatabase = 'd'\n\
                    user = 'u'\npassword = { env = 'RETRACE_TEST_UNSET' }\ntls = 'verify-full'\ntls_ca = 'gone.pem'\n";
        let file = dir.path().join("retrace.toml");
        std::fs::write(&file, text).unwrap();
        let warnings = warnings(&Config::load(&file).unwrap());
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(
            warnings[0].starts_with("target `shop`: password: ")
                && warnings[0].contains("RETRACE_TEST_UNSET")
        );
        assert!(warnings[1].starts_with("target `shop`: tls: ") && warnings[1].contains("gone.pem"));
        assert!(warnings[2].contains("no [[mask]]"));
    }
}
