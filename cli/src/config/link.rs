//! A target's TLS and the gate's proof towards it, with the words that libpq has for them. What libpq would do silently,
//! such as going on in cleartext, is refused here with a sentence.

use std::ops::Range;
use std::path::{Path, PathBuf};

use retrace_access::{BindingMode, CertificateCheck, ClientIdentity, SecretRef, TargetAuth, TargetTls};
use toml::Spanned;

use super::form;
use super::place::{ConfigError, Source};

/// Checks what belongs to a target's connection. Cleartext is the default on this machine alone.
pub(super) fn link(
    it: &form::Target,
    is_local: bool,
    dir: &Path,
    source: &Source<'_>,
) -> Result<(Option<TargetTls>, TargetAuth), ConfigError> {
    let given = it.tls.as_ref().map(|mode| (*mode.as_ref(), mode.span()));
    let mode = given.unwrap_or((if is_local { form::Tls::Disable } else { form::Tls::VerifyFull }, 0..0));
    let auth = auth(it, source)?;
    let Some(check) = check(it, mode, dir, source)? else {
        refuse_without_tls(it, source)?;
        return Ok((None, auth));
    };
    let tls = TargetTls {
        check,
        server_name: it.tls_server_name.as_ref().map(|name| name.as_ref().clone()),
        identity: identity(it.tls_cert.as_ref(), it.tls_key.as_ref(), dir, source)?,
        direct: it.tls_negotiation.as_ref().is_some_and(|it| *it.as_ref() == form::TlsNegotiation::Direct),
    };
    Ok((Some(tls), auth))
}

/// How far the target must prove who it is; `None` is cleartext.
fn check(
    it: &form::Target,
    (mode, at): (form::Tls, Range<usize>),
    dir: &Path,
    source: &Source<'_>,
) -> Result<Option<CertificateCheck>, ConfigError> {
    let ca = it.tls_ca.as_ref().map(|ca| dir.join(ca.as_ref()));
    Ok(match (mode, ca) {
        (form::Tls::Allow | form::Tls::Prefer, _) => {
            let problem = "goes on in cleartext when somebody says that there is no TLS, so this gate does not do it: use \
                           \"verify-full\", or \"disable\" where cleartext is meant";
            return Err(source.error(at, problem));
        }
        (form::Tls::VerifyFull, ca) => Some(CertificateCheck::Full { ca }),
        (form::Tls::VerifyCa, Some(ca)) => Some(CertificateCheck::Chain { ca }),
        (form::Tls::VerifyCa, None) => {
            let problem = "checks the chain alone, and under the roots of the operating system anybody has a chain: name \
                           the target's own with tls_ca, or use \"verify-full\"";
            return Err(source.error(at, problem));
        }
        (form::Tls::Disable | form::Tls::Require, Some(_)) => {
            let at = it.tls_ca.as_ref().map_or(0..0, toml::Spanned::span);
            let problem = "certificates are checked with tls = \"verify-full\" or \"verify-ca\" alone: set one of them, or \
                           leave tls_ca out";
            return Err(source.error(at, problem));
        }
        (form::Tls::Require, None) => Some(CertificateCheck::Nothing),
        (form::Tls::Disable, None) => None,
    })
}

/// What makes no sense in cleartext.
fn refuse_without_tls(it: &form::Target, source: &Source<'_>) -> Result<(), ConfigError> {
    let direct = it.tls_negotiation.as_ref().filter(|it| *it.as_ref() == form::TlsNegotiation::Direct);
    let bound = it.channel_binding.as_ref().filter(|it| *it.as_ref() == form::ChannelBinding::Require);
    let places = [
        it.tls_server_name.as_ref().map(toml::Spanned::span),
        it.tls_cert.as_ref().map(toml::Spanned::span),
        it.tls_key.as_ref().map(toml::Spanned::span),
        direct.map(toml::Spanned::span),
        bound.map(toml::Spanned::span),
    ];
    match places.into_iter().flatten().next() {
        Some(at) => {
            Err(source.error(at, "this target is connected to without TLS: set tls = \"verify-full\""))
        }
        None => Ok(()),
    }
}

/// A certificate of the gate's own.
pub(super) fn identity(
    certificate: Option<&Spanned<PathBuf>>,
    key: Option<&Spanned<SecretRef>>,
    dir: &Path,
    source: &Source<'_>,
) -> Result<Option<ClientIdentity>, ConfigError> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(ClientIdentity {
            certificate: dir.join(certificate.as_ref()),
            key: key.as_ref().clone(),
        })),
        (None, None) => Ok(None),
        (Some(alone), None) => Err(source.error(alone.span(), "a certificate needs its key: set tls_key")),
        (None, Some(alone)) => Err(source.error(alone.span(), "a key needs its certificate: set tls_cert")),
    }
}

fn auth(it: &form::Target, source: &Source<'_>) -> Result<TargetAuth, ConfigError> {
    let methods = match &it.require_auth {
        Some(text) => text.as_ref().parse().map_err(|error| source.error(text.span(), error))?,
        None => retrace_access::AuthMethods::default(),
    };
    let binding = match it.channel_binding.as_ref().map(|it| *it.as_ref()) {
        Some(form::ChannelBinding::Disable) => BindingMode::Disable,
        Some(form::ChannelBinding::Require) => BindingMode::Require,
        Some(form::ChannelBinding::Prefer) | None => BindingMode::Prefer,
    };
    Ok(TargetAuth { methods, allow_weak: it.allow_weak_auth, binding })
}
