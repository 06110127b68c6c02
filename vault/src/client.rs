//! HTTP, with limits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{StatusCode, Url};
use retrace_access::{CertificateCheck, Secret, TargetTls};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::call::Call;
use crate::error::VaultError;
use crate::metrics::CallMetrics;
use crate::settings::Settings;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// How long a connection may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(3);

/// How long an answer may take, from the first byte of its request. Whoever dials a target waits for ten seconds.
pub(crate) const ANSWER_WAIT_MAX: Duration = Duration::from_secs(7);

/// How long it may ask to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Requests at once.
const CALLS_MAX: usize = 16;

/// A secret store as one login reaches it: with the roots, the certificate and the address as they were then.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    namespace: Option<HeaderValue>,
    calls: Arc<Semaphore>,
    metrics: CallMetrics,
}

impl Client {
    pub(crate) fn new(settings: &Settings, metrics: CallMetrics) -> Result<Self, VaultError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_WAIT_MAX)
            .timeout(ANSWER_WAIT_MAX)
            .referer(false)
            .redirect(Policy::custom(to_the_active_node))
            .http1_only()
            .user_agent(concat!("retrace/", env!("CARGO_PKG_VERSION")));
        let mut base = settings.address.url().clone();
        let is_encrypted = settings.address.is_encrypted();
        // The library wants one even in cleartext, where it is not used; and a machine may have no roots.
        let unused = TargetTls::new(CertificateCheck::Nothing);
        let tls = if is_encrypted { &settings.tls } else { &unused };
        let tls = tls.client_config(&settings.base_dir)?;
        let mut http = http.tls_backend_preconfigured(tls).https_only(is_encrypted);
        if !is_encrypted {
            // On this machine, in cleartext: never by way of a proxy.
            http = http.no_proxy();
        } else if let Some(name) = &settings.tls.server_name {
            // It is asked for by the name that its certificate has, at the address that it has.
            let host = base.host_str().ok_or(VaultError::SetUp)?.to_owned();
            http = http.no_proxy().dns_resolver(Arc::new(Elsewhere { name: name.clone(), host }));
            base.set_host(Some(name)).map_err(|_| VaultError::SetUp)?;
        }
        let namespace =
            settings.namespace.as_ref().map(|path| HeaderValue::from_bytes(path.as_str().as_bytes()));
        Ok(Self {
            http: http.build().map_err(|_| VaultError::SetUp)?,
            base,
            namespace: namespace.transpose().map_err(|_| VaultError::SetUp)?,
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            metrics,
        })
    }

    /// Asks, and reads the answer.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        token: Option<&Secret>,
    ) -> Result<T, VaultError> {
        let answer = self.send(call, token).await?;
        // The library's error can quote what it read.
        serde_json::from_slice(&answer).map_err(|_| VaultError::Answer)
    }

    /// Asks, and counts what becomes of it.
    pub(crate) async fn send(
        &self,
        call: &Call<'_>,
        token: Option<&Secret>,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let _one = self.calls.acquire().await.expect("nobody closes it");
        let began = Instant::now();
        let answer = self.answer(call, token).await;
        let outcome = answer.as_ref().err().map_or("ok", VaultError::outcome);
        self.metrics.count(call.operation(), outcome, began.elapsed());
        answer
    }

    async fn answer(
        &self,
        call: &Call<'_>,
        token: Option<&Secret>,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let mut request = self.http.request(call.method(), self.url(&call.path())?);
        // An agent's listener takes no request without it that a browser could be made to send.
        request = request.header("X-Vault-Request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(token) = token {
            let mut value = HeaderValue::from_bytes(token.expose()).map_err(|_| VaultError::SecretForm)?;
            value.set_sensitive(true);
            request = request.header("X-Vault-Token", value);
        }
        if let Some(body) = call.body()? {
            // It is wiped when it is sent.
            request = request.header("Content-Type", "application/json").body(Bytes::from_owner(body));
        }
        let response = request.send().await.map_err(|error| VaultError::of_transport(&error))?;
        let (status, wait) = (response.status(), retry_after(response.headers()));
        let answer = read(response).await?;
        if status.is_success() {
            return Ok(answer);
        }
        let is_vaults = serde_json::from_slice::<IgnoredAny>(&answer).is_ok();
        Err(VaultError::of_status(status, wait, is_vaults))
    }

    fn url(&self, path: &str) -> Result<Url, VaultError> {
        let mut url = self.base.clone();
        let mut parts = url.path_segments_mut().map_err(|()| VaultError::SetUp)?;
        parts.clear().push("v1").extend(path.split('/'));
        drop(parts);
        Ok(url)
    }
}

async fn read(mut response: reqwest::Response) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    while let Some(chunk) = response.chunk().await.map_err(|error| VaultError::of_transport(&error))? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(VaultError::Answer);
        }
        if bytes.len() + chunk.len() > bytes.capacity() {
            // What would be moved to grow is wiped where it was.
            let mut larger = Zeroizing::new(Vec::with_capacity(2 * (bytes.len() + chunk.len())));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A standby answers with the active node's address. Once, and within TLS alone. The token goes along: whoever sent us there had
/// proved to be Vault.
fn to_the_active_node(attempt: Attempt<'_>) -> Action {
    let keeps_method =
        matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let is_first = attempt.previous().len() == 1;
    let is_encrypted = |url: &Url| url.scheme() == "https";
    let stays_encrypted = is_encrypted(attempt.url()) && attempt.previous().iter().all(is_encrypted);
    if keeps_method && is_first && stays_encrypted { attempt.follow() } else { attempt.stop() }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Finds the host under a name that it has in its certificate alone.
struct Elsewhere {
    name: String,
    host: String,
}

impl Resolve for Elsewhere {
    fn resolve(&self, name: Name) -> Resolving {
        let host = if name.as_str().eq_ignore_ascii_case(&self.name) {
            self.host.clone()
        } else {
            name.as_str().to_owned()
        };
        Box::pin(async move {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            // The library puts the port of the address in the place of 0.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
