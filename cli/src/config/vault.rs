//! Where the secret store is, and how the gate logs in.

use std::path::{Path, PathBuf};

use retrace_access::{CertificateCheck, SecretRef, TargetTls};
use retrace_vault::{Address, ApiPath, Login, Settings};
use toml::Spanned;

use super::form;
use super::link::identity;
use super::place::{ConfigError, Source};

/// Where Kubernetes puts the token of a pod's service account.
const TOKEN_FILE_DEFAULT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

pub(super) fn vault(
    it: Spanned<form::Vault>,
    dir: &Path,
    source: &Source<'_>,
) -> Result<Settings, ConfigError> {
    let at = it.span();
    let it = it.into_inner();
    let address = Address::parse(it.address.as_ref());
    let address = address.map_err(|error| source.error(it.address.span(), error))?;
    if !address.is_encrypted() {
        refuse_tls(&it, source)?;
    }
    let tls = TargetTls {
        server_name: it.tls_server_name.as_ref().map(|name| name.as_ref().clone()),
        identity: identity(it.tls_cert.as_ref(), it.tls_key.as_ref(), dir, source)?,
        ..TargetTls::new(CertificateCheck::Full { ca: it.tls_ca.as_ref().map(|ca| dir.join(ca.as_ref())) })
    };
    let namespace = it.namespace.as_ref().map(|namespace| {
        let path = namespace.as_ref().trim_end_matches('/');
        ApiPath::parse(path).map_err(|error| source.error(namespace.span(), error))
    });
    Ok(Settings {
        address,
        namespace: namespace.transpose()?,
        tls,
        login: login(it, at, source)?,
        base_dir: dir.to_owned(),
    })
}

/// What makes no sense in cleartext.
fn refuse_tls(it: &form::Vault, source: &Source<'_>) -> Result<(), ConfigError> {
    let places = [
        it.tls_ca.as_ref().map(Spanned::span),
        it.tls_server_name.as_ref().map(Spanned::span),
        it.tls_cert.as_ref().map(Spanned::span),
        it.tls_key.as_ref().map(Spanned::span),
    ];
    match places.into_iter().flatten().next() {
        Some(at) => {
            Err(source.error(at, "this Vault is spoken with in cleartext: use https:// in `address`"))
        }
        None => Ok(()),
    }
}

/// The one way that the file has to log in.
fn login(it: form::Vault, at: std::ops::Range<usize>, source: &Source<'_>) -> Result<Login, ConfigError> {
    let given = [
        it.token.as_ref().map(|it| ("`token`", it.span())),
        it.approle.as_ref().map(|it| ("`[vault.approle]`", it.span())),
        it.kubernetes.as_ref().map(|it| ("`[vault.kubernetes]`", it.span())),
        it.cert.as_ref().map(|it| ("`[vault.cert]`", it.span())),
    ];
    let mut given = given.into_iter().flatten();
    if let (Some((first, _)), Some((second, at))) = (given.next(), given.next()) {
        let problem = format!("the gate logs in in one way: remove {first} or {second}");
        return Err(source.error(at, problem));
    }
    if let Some(token) = it.token {
        return Ok(Login::Token(token.into_inner()));
    }
    if let Some(approle) = it.approle {
        let form::AppRole { role_id, secret_id, secret_id_is_wrapped, mount } = approle.into_inner();
        let mount = mount_or(mount.as_ref(), "approle", source)?;
        return Ok(Login::AppRole { mount, role_id, secret_id, is_wrapped: secret_id_is_wrapped });
    }
    if let Some(kubernetes) = it.kubernetes {
        let form::Kubernetes { role, token_file, mount } = kubernetes.into_inner();
        let mount = mount_or(mount.as_ref(), "kubernetes", source)?;
        let file = token_file.unwrap_or_else(|| PathBuf::from(TOKEN_FILE_DEFAULT));
        return Ok(Login::Jwt { mount, role, token: SecretRef::File(file) });
    }
    let Some(cert) = it.cert else {
        let problem =
            "how does the gate log in? Add token, [vault.approle], [vault.kubernetes] or [vault.cert]";
        return Err(source.error(at, problem));
    };
    if it.tls_cert.is_none() {
        let problem = "its proof is a certificate: set tls_cert and tls_key in [vault]";
        return Err(source.error(cert.span(), problem));
    }
    let form::Cert { role, mount } = cert.into_inner();
    Ok(Login::Certificate { mount: mount_or(mount.as_ref(), "cert", source)?, role })
}

fn mount_or(
    given: Option<&Spanned<String>>,
    default: &str,
    source: &Source<'_>,
) -> Result<ApiPath, ConfigError> {
    match given {
        Some(given) => ApiPath::parse(given.as_ref()).map_err(|error| source.error(given.span(), error)),
        None => Ok(ApiPath::parse(default).expect("the default is a path")),
    }
}
