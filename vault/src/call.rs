//! The requests that are sent, and no others.

use std::borrow::Cow;

use reqwest::Method;
use retrace_access::Secret;
use zeroize::Zeroizing;

use crate::error::VaultError;
use crate::reference::ApiPath;

/// A request.
pub(crate) enum Call<'a> {
    LogIn {
        mount: &'a ApiPath,
        proof: Proof<'a>,
    },
    LookUpToken,
    RenewToken,
    RevokeToken,
    /// KV and credentials of the database engine alike.
    Read(&'a ApiPath),
    RenewLease(&'a Secret),
    RevokeLease(&'a Secret),
    /// What the gate may do at a path.
    Capabilities(&'a ApiPath),
    /// What a wrapping token wraps. Asked without a token of the gate's own.
    LookUpWrapped(&'a Secret),
    /// What it wraps itself. The wrapping token is the token that it is asked with.
    Unwrap,
}

/// What the gate says to log in.
pub(crate) enum Proof<'a> {
    AppRole { role_id: &'a str, secret_id: &'a Secret },
    Jwt { role: &'a str, jwt: &'a Secret },
    Certificate { role: Option<&'a str> },
}

impl Call<'_> {
    /// A word of a closed set, for metrics.
    pub(crate) const fn operation(&self) -> &'static str {
        match self {
            Self::LogIn { .. } => "log_in",
            Self::LookUpToken => "look_up_token",
            Self::RenewToken => "renew_token",
            Self::RevokeToken => "revoke_token",
            Self::Read(_) => "read",
            Self::RenewLease(_) => "renew_lease",
            Self::RevokeLease(_) => "revoke_lease",
            Self::Capabilities(_) => "capabilities",
            Self::LookUpWrapped(_) | Self::Unwrap => "unwrap",
        }
    }

    pub(crate) fn method(&self) -> Method {
        match self {
            Self::Read(_) | Self::LookUpToken => Method::GET,
            _ => Method::POST,
        }
    }

    /// Where it goes, behind `/v1/`.
    pub(crate) fn path(&self) -> Cow<'_, str> {
        match self {
            Self::LogIn { mount, .. } => format!("auth/{mount}/login").into(),
            Self::LookUpToken => "auth/token/lookup-self".into(),
            Self::RenewToken => "auth/token/renew-self".into(),
            Self::RevokeToken => "auth/token/revoke-self".into(),
            Self::Read(path) => path.as_str().into(),
            Self::RenewLease(_) => "sys/leases/renew".into(),
            Self::RevokeLease(_) => "sys/leases/revoke".into(),
            Self::Capabilities(_) => "sys/capabilities-self".into(),
            Self::LookUpWrapped(_) => "sys/wrapping/lookup".into(),
            Self::Unwrap => "sys/wrapping/unwrap".into(),
        }
    }

    /// What it says, in memory that is wiped.
    pub(crate) fn body(&self) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        let fields: &[(&str, &[u8])] = match self {
            Self::Read(_) | Self::LookUpToken => return Ok(None),
            Self::LogIn { proof: Proof::AppRole { role_id, secret_id }, .. } => {
                &[("role_id", role_id.as_bytes()), ("secret_id", secret_id.expose())]
            }
            Self::LogIn { proof: Proof::Jwt { role, jwt }, .. } => {
                &[("role", role.as_bytes()), ("jwt", jwt.expose())]
            }
            Self::LogIn { proof: Proof::Certificate { role: Some(role) }, .. } => {
                &[("name", role.as_bytes())]
            }
            // The term is the role's own. A lease that is let go of is the store's to revoke, and to try again.
            Self::RenewLease(id) | Self::RevokeLease(id) => &[("lease_id", id.expose())],
            Self::Capabilities(path) => &[("paths", path.as_str().as_bytes())],
            Self::LookUpWrapped(token) => &[("token", token.expose())],
            _ => &[],
        };
        object(fields).map(Some)
    }
}

/// A JSON object of these texts. There is room for it from the start, so that no copy is left behind where it would have
/// grown.
fn object(fields: &[(&str, &[u8])]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    /// What a byte takes at most, escaped.
    const ESCAPED_BYTES_MAX: usize = 6;
    let room = |(name, text): &(&str, &[u8])| ESCAPED_BYTES_MAX * (name.len() + text.len()) + 8;
    let room = 2 + fields.iter().map(room).sum::<usize>();
    let mut body = Zeroizing::new(Vec::with_capacity(room));
    for (index, (name, text)) in fields.iter().enumerate() {
        body.push(if index == 0 { b'{' } else { b',' });
        let text = str::from_utf8(text).map_err(|_| VaultError::SecretForm)?;
        for (part, behind) in [(*name, b":" as &[u8]), (text, b"")] {
            serde_json::to_writer(&mut *body, part).expect("a text is written into memory");
            body.extend_from_slice(behind);
        }
    }
    body.extend_from_slice(if fields.is_empty() { b"{}" } else { b"}" });
    debug_assert!(body.len() <= room, "it has not grown");
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(call: &Call<'_>) -> String {
        String::from_utf8(call.body().unwrap().unwrap_or_default().to_vec()).unwrap()
    }

    #[test]
    fn a_login_says_what_its_method_asks_for() {
        let mount = ApiPath::parse("team/approle").unwrap();
        let secret_id = Secret::new(b"a\"b\\c\n\x01".to_vec());
        let call =
            Call::LogIn { mount: &mount, proof: Proof::AppRole { role_id: "r", secret_id: &secret_id } };
        assert_eq!(call.path(), "auth/team/approle/login");
        let said: serde_json::Value = serde_json::from_str(&body(&call)).unwrap();
        assert_eq!(said, serde_json::json!({ "role_id": "r", "secret_id": "a\"b\\c\n\u{1}" }));
        let jwt = Secret::new(b"x.y.z".to_vec());
        let call = Call::LogIn { mount: &mount, proof: Proof::Jwt { role: "r", jwt: &jwt } };
        assert_eq!(body(&call), "{\"role\":\"r\",\"jwt\":\"x.y.z\"}");
        let call = Call::LogIn { mount: &mount, proof: Proof::Certificate { role: None } };
        assert_eq!(body(&call), "{}");
        assert_eq!(body(&Call::LookUpToken), "");
    }

    #[test]
    fn a_secret_that_is_no_text_is_not_sent() {
        let odd = Secret::new(vec![0xff]);
        assert!(matches!(Call::LookUpWrapped(&odd).body(), Err(VaultError::SecretForm)));
    }
}
