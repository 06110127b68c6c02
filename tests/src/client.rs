//! A driver's connection: extended protocol, pipelining, binary results.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::stream::poll_fn;
use futures::{FutureExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Socket};

use crate::Gate;

/// A connection and what came on it unasked.
pub struct Connection {
    /// The driver's handle.
    pub client: Client,
    /// Notices and notifications, as the driver shows them.
    pub unasked: Arc<Mutex<Vec<String>>>,
    /// Why it ended, once it did and somebody said so.
    pub end: Arc<Mutex<Option<Error>>>,
}

/// Connects to the target `shop` as `dev`.
#[track_caller]
pub fn connect(gate: &Gate) -> impl Future<Output = Connection> {
    let (config, tls) = (config(gate, "dev", &gate.dev_token(), "shop"), Tls::trusting(&gate.ca()));
    async move { connect_with(config, tls).await.expect("the gate lets `dev` in") }
}

/// The driver's settings for a principal and a target.
#[must_use]
pub fn config(gate: &Gate, principal: &str, token: &str, target: &str) -> Config {
    config_at(gate.port(), principal, token, target)
}

/// The same, where another gate of the same folder listens.
#[must_use]
pub fn config_at(port: u16, principal: &str, token: &str, target: &str) -> Config {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(principal).password(token).dbname(target);
    config.ssl_mode(tokio_postgres::config::SslMode::Require).application_name("retrace-tests");
    config
}

/// Connects; a task of the runtime drives the connection until the client is dropped.
pub async fn connect_with<T>(config: Config, tls: T) -> Result<Connection, Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = config.connect(tls).await?;
    let unasked = Arc::new(Mutex::new(Vec::new()));
    let end = Arc::new(Mutex::new(None));
    let (kept, told) = (Arc::clone(&unasked), Arc::clone(&end));
    tokio::spawn(async move {
        let mut messages = poll_fn(move |context| connection.poll_message(context));
        while let Some(message) = messages.next().await {
            let text = match message {
                Ok(AsyncMessage::Notice(notice)) => format!("{notice:?}"),
                Ok(AsyncMessage::Notification(said)) => format!("{}: {}", said.channel(), said.payload()),
                Ok(_) => continue,
                Err(error) => {
                    *told.lock().expect("nobody panics holding it") = Some(error);
                    break;
                }
            };
            kept.lock().expect("nobody panics holding it").push(text);
        }
    });
    Ok(Connection { client, unasked, end })
}

/// TLS for the driver, trusting one certificate authority.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the authority whose certificate `ca_pem` holds and no other.
    #[must_use]
    pub fn trusting(ca_pem: &Path) -> Self {
        let ca = CertificateDer::from_pem_file(ca_pem).expect("init wrote a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(ca).expect("a certificate can be trusted");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring does TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(Arc::new(config))
    }

    /// The settings themselves, for a client that is not the driver.
    #[must_use]
    pub fn settings(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Self::Error> {
        Ok(Handshake { config: self.settings(), name: ServerName::try_from(host.to_owned())? })
    }
}

/// A handshake to come.
pub struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Encrypted>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        tokio_rustls::TlsConnector::from(self.config)
            .connect(self.name, stream)
            .map(|stream| stream.map(|stream| Encrypted(Box::new(stream))))
            .boxed()
    }
}

/// An encrypted stream.
pub struct Encrypted(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }
}
