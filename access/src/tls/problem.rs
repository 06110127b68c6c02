use rustls::CertificateError;

/// What is wrong with a certificate, without the names that it has.
#[must_use]
pub fn wrong_with(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    match error {
        // An authority of the same name with another key shows by the signature.
        E::UnknownIssuer | E::BadSignature => "is not of an authority that the gate trusts for it (tls_ca)",
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            "is of another name than the gate was told (tls_server_name)"
        }
        E::Expired | E::ExpiredContext { .. } => "is expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "is not valid yet",
        E::Revoked => "is revoked",
        _ => "is not valid",
    }
}
