//! A server that answers as it is told to.

use std::sync::Arc;

use retrace_access::{Ca, CertificateCheck, ServerIdentity, TargetTls, tls};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::reference::ApiPath;
use crate::settings::{Address, Login, Settings};

pub(crate) const TOKEN: &str = "canary-token";

/// A folder with a CA, and a certificate for this name.
pub(crate) fn issued(name: &str) -> (TempDir, ServerIdentity) {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::create(dir.path()).unwrap();
    let identity = ca.issue_server(&[name.to_owned()]).unwrap();
    (dir, identity)
}

pub(crate) fn settings(address: &str, dir: &TempDir) -> Settings {
    let ca = Some(Ca::certificate_path(dir.path()));
    Settings {
        address: Address::parse(address).unwrap(),
        namespace: None,
        tls: TargetTls::new(CertificateCheck::Full { ca }),
        login: Login::Certificate { mount: ApiPath::parse("cert").unwrap(), role: None },
        base_dir: dir.path().to_owned(),
    }
}

/// Answers each connection's one request by what `answer` makes of it, inside TLS if it has a certificate; tells the
/// requests. Gives its port.
pub(crate) async fn serving(
    identity: Option<&ServerIdentity>,
    answer: impl Fn(&str) -> String + Send + Sync + 'static,
) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::unbounded_channel();
    let acceptor = identity.map(|identity| {
        let config = tls::server_config(&identity.certificate, &identity.key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    });
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tell, acceptor, answer) = (tell.clone(), acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Some(acceptor) = acceptor else { return exchange(stream, &tell, &*answer).await };
                if let Ok(stream) = acceptor.accept(stream).await {
                    exchange(stream, &tell, &*answer).await;
                }
            });
        }
    });
    (port, told)
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    tell: &mpsc::UnboundedSender<String>,
    answer: &(impl Fn(&str) -> String + ?Sized),
) {
    let mut request = String::new();
    while !is_whole(&request) {
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes).await {
            Ok(count) if count > 0 => request.push_str(&String::from_utf8_lossy(&bytes[..count])),
            _ => return,
        }
    }
    let answer = answer(&request);
    let _ = tell.send(request);
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| length.parse() == Ok(body.len()))
}

pub(crate) fn response(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{more}\r\n{body}", body.len())
}
