//! The gate's proof towards a target, without I/O: what the target asks for, what may be answered, and when it is enough.

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use retrace_access::{AuthMethod, BindingMode, Credential, Secret, TargetAuth};

use super::DialError;
use crate::startup;

/// Who may see what is sent on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privacy {
    /// The target alone: it has proved who it is, inside TLS.
    Verified,
    /// This machine alone.
    Local,
    /// Whoever listens, or stands in for the target.
    Exposed,
}

/// The gate's side of a login.
pub(super) struct Prover<'a> {
    auth: TargetAuth,
    credential: &'a Credential,
    privacy: Privacy,
    end_point: Option<Vec<u8>>,
    state: State,
}

enum State {
    /// Nothing was asked for yet.
    Begun,
    /// The password went out, as it is or hashed.
    Sent,
    /// In the middle of SCRAM.
    Exchange(ScramSha256),
    /// The target has proved in its turn that it knows the password.
    Proved,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Send this message.
    Send(Secret),
    /// Read on.
    Wait,
    /// The target has let the gate in.
    In,
}

impl<'a> Prover<'a> {
    /// `end_point` is the hash of the target's certificate that a proof can be bound to.
    pub(super) fn new(
        auth: TargetAuth,
        credential: &'a Credential,
        privacy: Privacy,
        end_point: Option<Vec<u8>>,
    ) -> Self {
        Self { auth, credential, privacy, end_point, state: State::Begun }
    }

    /// Takes an authentication message. After an error it takes no more.
    pub(super) fn handle(&mut self, body: &[u8]) -> Result<Step, DialError> {
        let (kind, rest) = body.split_first_chunk::<4>().ok_or(DialError::Protocol)?;
        match (u32::from_be_bytes(*kind), std::mem::replace(&mut self.state, State::Begun)) {
            (0, state) => self.handle_ok(&state),
            (3, State::Begun) => self.password(),
            (5, State::Begun) => self.md5(rest),
            (10, State::Begun) => self.begin_scram(rest),
            (11, State::Exchange(mut exchange)) => {
                exchange.update(rest).map_err(|_| DialError::Protocol)?;
                let last = message(exchange.message());
                self.state = State::Exchange(exchange);
                Ok(Step::Send(last))
            }
            (12, State::Exchange(mut exchange)) => {
                exchange.finish(rest).map_err(|_| DialError::NoProof)?;
                self.state = State::Proved;
                Ok(Step::Wait)
            }
            (2, _) => Err(DialError::Unsupported("Kerberos 5")),
            (7, _) => Err(DialError::Unsupported("GSSAPI")),
            (9, _) => Err(DialError::Unsupported("SSPI")),
            _ => Err(DialError::Protocol),
        }
    }

    /// A target that asked for nothing has let the gate in by its own choice, or by the certificate that it was shown. In
    /// the middle of SCRAM it owes its own proof.
    fn handle_ok(&self, state: &State) -> Result<Step, DialError> {
        match state {
            State::Begun => {
                self.check_allowed(AuthMethod::None).map_err(|_| DialError::NotAsked)?;
                self.check_unbound().map(|()| Step::In)
            }
            State::Sent | State::Proved => Ok(Step::In),
            State::Exchange(_) => Err(DialError::NoProof),
        }
    }

    fn password(&mut self) -> Result<Step, DialError> {
        self.check_weak(AuthMethod::Password)?;
        self.state = State::Sent;
        Ok(Step::Send(with_end(self.credential.password.expose())))
    }

    fn md5(&mut self, salt: &[u8]) -> Result<Step, DialError> {
        self.check_weak(AuthMethod::Md5)?;
        let salt = salt.try_into().map_err(|_| DialError::Protocol)?;
        let hash = md5_hash(self.credential.user.as_bytes(), self.credential.password.expose(), salt);
        self.state = State::Sent;
        Ok(Step::Send(with_end(hash.as_bytes())))
    }

    fn begin_scram(&mut self, offered: &[u8]) -> Result<Step, DialError> {
        let offers = |name: &str| offered.split(|byte| *byte == 0).any(|it| it == name.as_bytes());
        let (plain, plus) = (offers(SCRAM_SHA_256), offers(SCRAM_SHA_256_PLUS));
        if !plain && !plus {
            let is_oauth = offers("OAUTHBEARER");
            return Err(DialError::Unsupported(if is_oauth { "OAuth" } else { "an unknown SASL mechanism" }));
        }
        self.check_allowed(AuthMethod::ScramSha256)?;
        let end_point = self.end_point.take().filter(|_| self.auth.binding != BindingMode::Disable);
        let (name, binding) = match end_point {
            Some(end_point) if plus => (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(end_point)),
            // Says that the gate could: a target that offered it then knows that somebody between took it away.
            Some(_) if plain => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            None if plain => (SCRAM_SHA_256, ChannelBinding::unsupported()),
            _ => return Err(DialError::Unsupported("SCRAM with channel binding alone over this connection")),
        };
        if name == SCRAM_SHA_256 {
            self.check_unbound()?;
        }
        let exchange = ScramSha256::new(self.credential.password.expose(), binding);
        let first = exchange.message();
        let length = u32::try_from(first.len()).expect("a short message").to_be_bytes();
        let initial = message(&[name.as_bytes(), b"\0", &length[..], first].concat());
        self.state = State::Exchange(exchange);
        Ok(Step::Send(initial))
    }

    fn check_allowed(&self, method: AuthMethod) -> Result<(), DialError> {
        if self.auth.methods.allow(method) { Ok(()) } else { Err(DialError::NotAllowed(method)) }
    }

    fn check_unbound(&self) -> Result<(), DialError> {
        if self.auth.binding == BindingMode::Require { Err(DialError::NotBound) } else { Ok(()) }
    }

    /// A method that gives away what it should prove: only to who has proved to be the target, or on this machine.
    fn check_weak(&self, method: AuthMethod) -> Result<(), DialError> {
        self.check_allowed(method)?;
        self.check_unbound()?;
        if self.privacy == Privacy::Exposed && !self.auth.allow_weak {
            return Err(DialError::Weak(method));
        }
        Ok(())
    }
}

fn with_end(text: &[u8]) -> Secret {
    let text = Secret::new([text, b"\0"].concat());
    message(text.expose())
}

fn message(body: &[u8]) -> Secret {
    Secret::new(startup::message(b'p', body))
}
