//! How the gate may prove itself to a target: libpq's `require_auth` and `channel_binding`, and what is never done
//! unasked.

use std::fmt;
use std::str::FromStr;

/// A way in which a target asks for a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// The password as it is.
    Password,
    /// A hash of password and salt by MD5. Who sees it can search for the password, and its other end can use it.
    Md5,
    /// SCRAM-SHA-256 or SCRAM-SHA-256-PLUS.
    ScramSha256,
    /// No proof is asked for, or the client certificate is the proof.
    None,
}

impl AuthMethod {
    const ALL: [Self; 4] = [Self::Password, Self::Md5, Self::ScramSha256, Self::None];

    /// Its name in libpq's `require_auth`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::ScramSha256 => "scram-sha-256",
            Self::None => "none",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The methods that a target may ask for. By default every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthMethods(u8);

impl AuthMethods {
    /// Whether a target may ask for this.
    #[must_use]
    pub const fn allow(self, method: AuthMethod) -> bool {
        self.0 & method.bit() != 0
    }
}

impl Default for AuthMethods {
    fn default() -> Self {
        Self(AuthMethod::ALL.into_iter().fold(0, |all, method| all | method.bit()))
    }
}

/// Why a text is not a list of methods.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthMethodsError {
    /// Not a method, or one that the gate does not do.
    #[error(
        "`{0}` is not a method of this gate; allowed: password, md5, scram-sha-256, none, or each with `!`"
    )]
    Unknown(String),
    /// Some are named with `!` and some without.
    #[error("either the methods that are allowed, or each with `!` those that are not; not both")]
    Mixed,
    /// The same method twice.
    #[error("`{0}` stands there twice")]
    Twice(String),
    /// Nothing would be left.
    #[error("no method is left")]
    Empty,
}

/// In libpq's form: `scram-sha-256,md5` allows these alone, `!password,!none` all but these.
impl FromStr for AuthMethods {
    type Err = AuthMethodsError;

    fn from_str(text: &str) -> Result<Self, AuthMethodsError> {
        let (mut named, mut negated) = (0, None);
        for word in text.split(',').map(str::trim) {
            let (is_negated, name) = word.strip_prefix('!').map_or((false, word), |name| (true, name));
            let method = AuthMethod::ALL.into_iter().find(|method| method.name() == name);
            let method = method.ok_or_else(|| AuthMethodsError::Unknown(word.to_owned()))?;
            if *negated.get_or_insert(is_negated) != is_negated {
                return Err(AuthMethodsError::Mixed);
            }
            if named & method.bit() != 0 {
                return Err(AuthMethodsError::Twice(word.to_owned()));
            }
            named |= method.bit();
        }
        let allowed = if negated == Some(true) { Self::default().0 & !named } else { named };
        if allowed == 0 { Err(AuthMethodsError::Empty) } else { Ok(Self(allowed)) }
    }
}

/// Whether a login is bound to the certificate of its TLS connection: libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindingMode {
    /// Where the target offers it.
    #[default]
    Prefer,
    /// Always; a target that does not offer it is not logged in at.
    Require,
    /// Never, for targets whose TLS ends at something before them.
    Disable,
}

/// How the gate may prove itself to a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetAuth {
    /// What the target may ask for.
    pub methods: AuthMethods,
    /// Whether the password may go out as it is or as MD5 where somebody else may be at the other end, or listen.
    pub allow_weak: bool,
    /// Whether the proof is bound to the connection.
    pub binding: BindingMode,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of password, md5, scram-sha-256 and none are allowed.
    fn allowed(text: &str) -> Result<[bool; 4], AuthMethodsError> {
        text.parse::<AuthMethods>().map(|methods| AuthMethod::ALL.map(|method| methods.allow(method)))
    }

    #[test]
    fn methods_are_read_as_libpq_reads_them() {
        assert_eq!(allowed("scram-sha-256"), Ok([false, false, true, false]));
        assert_eq!(allowed("md5, scram-sha-256"), Ok([false, true, true, false]));
        assert_eq!(allowed("none"), Ok([false, false, false, true]));
        assert_eq!(allowed("!none"), Ok([true, true, true, false]));
        assert_eq!(allowed("!password,!md5"), Ok([false, false, true, true]));
        assert_eq!(AuthMethod::ALL.map(|method| AuthMethods::default().allow(method)), [true; 4]);
    }

    #[test]
    fn what_libpq_refuses_is_refused() {
        assert_eq!(allowed("md5,!none"), Err(AuthMethodsError::Mixed));
        assert_eq!(allowed("md5,md5"), Err(AuthMethodsError::Twice("md5".to_owned())));
        assert_eq!(allowed("!password,!md5,!scram-sha-256,!none"), Err(AuthMethodsError::Empty));
        for unknown in ["", "gss", "oauth", "md5,", "MD5", "!!none", "!"] {
            assert!(matches!(allowed(unknown), Err(AuthMethodsError::Unknown(_))), "{unknown}");
        }
    }
}
