use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::answer::TokenState;
use crate::reference::ApiPath;
use crate::testing::{TOKEN, issued, response, serving, settings};

const STATE: &str = r#"{"data":{"id":"canary-token","ttl":30,"renewable":true}}"#;

async fn look_up(client: &Client) -> Result<u64, VaultError> {
    let token = Secret::new(TOKEN.as_bytes().to_vec());
    client.ask::<TokenState>(&Call::LookUpToken, Some(&token)).await.map(|state| state.data.ttl)
}

fn client(settings: &Settings) -> Client {
    Client::new(settings, CallMetrics::new()).unwrap()
}

fn all(told: &mut mpsc::UnboundedReceiver<String>) -> Vec<String> {
    std::iter::from_fn(|| told.try_recv().ok()).collect()
}

#[tokio::test]
async fn a_store_that_proves_itself_is_asked_with_token_and_namespace() {
    let (dir, identity) = issued("127.0.0.1");
    let (port, mut told) = serving(Some(&identity), |_| response("200 OK", "", STATE)).await;
    let address = format!("https://127.0.0.1:{port}");
    let namespace = Some(ApiPath::parse("team/a").unwrap());
    let client = client(&Settings { namespace, ..settings(&address, &dir) });
    assert_eq!(look_up(&client).await.unwrap(), 30);
    let request = all(&mut told).remove(0).to_ascii_lowercase();
    assert!(request.starts_with("get /v1/auth/token/lookup-self http/1.1\r\n"), "{request}");
    for header in ["x-vault-token: canary-token", "x-vault-namespace: team/a", "x-vault-request: true"] {
        assert!(request.contains(header), "{header} is not in {request}");
    }
    assert!(!format!("{client:?}").contains(TOKEN));
}

#[tokio::test]
async fn one_that_does_not_is_told_nothing() {
    let (dir, _) = issued("127.0.0.1");
    let (_other, identity) = issued("127.0.0.1");
    let (port, mut told) = serving(Some(&identity), |_| response("200 OK", "", STATE)).await;
    let error = look_up(&client(&settings(&format!("https://127.0.0.1:{port}"), &dir))).await.unwrap_err();
    assert!(matches!(error, VaultError::Certificate(_)), "{error:?}");
    assert!(error.to_string().contains("tls_ca"), "{error}");
    assert_eq!(all(&mut told), [""; 0]);
}

#[tokio::test]
async fn a_certificate_of_another_name_is_taken_where_the_configuration_gives_that_name() {
    let (dir, identity) = issued("vault.internal");
    let (port, _told) = serving(Some(&identity), |_| response("200 OK", "", STATE)).await;
    let mut settings = settings(&format!("https://127.0.0.1:{port}"), &dir);
    let error = look_up(&client(&settings)).await.unwrap_err();
    assert!(error.to_string().contains("tls_server_name"), "{error}");
    settings.tls.server_name = Some("Vault.internal".to_owned());
    assert_eq!(look_up(&client(&settings)).await.unwrap(), 30);
    settings.tls.server_name = Some("other.internal".to_owned());
    assert!(look_up(&client(&settings)).await.is_err());
}

#[tokio::test]
async fn a_standby_leads_to_the_active_node_once_and_within_tls() {
    let (dir, identity) = issued("127.0.0.1");
    let (active, mut told) = serving(Some(&identity), |_| response("200 OK", "", STATE)).await;
    let (open, mut open_told) = serving(None, |_| response("200 OK", "", STATE)).await;
    let to = |scheme: &str, port: u16, status: &'static str| {
        let location = format!("Location: {scheme}://127.0.0.1:{port}/v1/auth/token/lookup-self\r\n");
        move |_: &str| response(status, &location, "")
    };
    let (first, _) = serving(Some(&identity), to("https", active, "307 Temporary Redirect")).await;
    let at = |port: u16| client(&settings(&format!("https://127.0.0.1:{port}"), &dir));
    assert_eq!(look_up(&at(first)).await.unwrap(), 30);
    assert!(all(&mut told)[0].to_ascii_lowercase().contains("x-vault-token: canary-token"));
    let (second, _) = serving(Some(&identity), to("https", first, "307 Temporary Redirect")).await;
    let (weaker, _) = serving(Some(&identity), to("http", open, "307 Temporary Redirect")).await;
    let (other, _) = serving(Some(&identity), to("https", active, "302 Found")).await;
    for port in [second, weaker, other] {
        assert!(matches!(look_up(&at(port)).await, Err(VaultError::Fails(302 | 307))), "{port}");
    }
    let (local, _) = serving(None, to("http", open, "307 Temporary Redirect")).await;
    let local = client(&settings(&format!("http://127.0.0.1:{local}"), &dir));
    assert!(matches!(look_up(&local).await, Err(VaultError::Fails(307))));
    assert_eq!((all(&mut told), all(&mut open_told)), (vec![], vec![]));
}

#[tokio::test]
async fn what_is_answered_is_told_by_its_status_and_never_by_its_words() {
    let dir = tempfile::tempdir().unwrap();
    let says = r#"{"errors":["canary: failed to connect to user=admin"]}"#;
    for (status, more, body, expected) in [
        ("403 Forbidden", "", says, "does not let the gate"),
        ("404 Not Found", "", r#"{"errors":[]}"#, "has nothing there"),
        ("400 Bad Request", "", says, "does not know this"),
        ("400 Bad Request", "", "Client sent an HTTP request to an HTTPS server.", "as Vault does"),
        ("404 Not Found", "", "<html>canary</html>", "as Vault does"),
        ("503 Service Unavailable", "", says, "sealed"),
        ("429 Too Many Requests", "Retry-After: 20\r\n", says, "too often"),
        ("500 Internal Server Error", "", says, "fails (status 500)"),
        ("502 Bad Gateway", "", "<html>canary</html>", "fails (status 502)"),
        ("200 OK", "", "<html>canary</html>", "as Vault does"),
        ("200 OK", "", r#"{"data":{"ttl":"canary"}}"#, "as Vault does"),
    ] {
        let (port, _told) = serving(None, move |_| response(status, more, body)).await;
        let client = client(&settings(&format!("http://127.0.0.1:{port}"), &dir));
        let error = look_up(&client).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(expected) && !text.contains("canary"), "{status}: {text}");
        if let VaultError::Busy { wait } = error {
            assert_eq!(wait, Some(Duration::from_secs(20)));
        }
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{{\"data\":{{\"ttl\":30,\"more\":\"{}\"}}}}", "x".repeat(ANSWER_BYTES_MAX));
    let (port, _told) = serving(None, move |_| response("200 OK", "", &long)).await;
    let client = client(&settings(&format!("http://127.0.0.1:{port}"), &dir));
    assert!(matches!(look_up(&client).await, Err(VaultError::Answer)));
}

#[tokio::test]
async fn what_cannot_be_sent_or_reached_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = client(&settings(&format!("http://127.0.0.1:{port}"), &dir));
    let broken = Secret::new(b"canary\n".to_vec());
    let error = client.send(&Call::LookUpToken, Some(&broken)).await.unwrap_err();
    assert!(matches!(error, VaultError::SecretForm), "{error:?}");
    drop(listener);
    let error = look_up(&client).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("connection refused") && !text.contains("127.0.0.1"), "{text}");
}
