use std::sync::Arc;

use retrace_proto::wire;

use crate::limits::PrincipalLimits;

/// What of the recorded evidence a principal may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvidenceRight {
    /// Nothing: the default, because being allowed to act says nothing about reading what others did.
    #[default]
    None,
    /// The sessions that the principal itself made.
    Own,
    /// Every session.
    All,
}

/// Which sessions a principal may end, and which tokens it may revoke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KillRight {
    /// None.
    #[default]
    None,
    /// Its own.
    Own,
    /// Everybody's.
    All,
}

/// Whether a principal may set and lift legal holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HoldRight {
    /// It may not.
    #[default]
    None,
    /// On whatever evidence there is.
    All,
}

/// Who may act: a human, an agent or a service, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The name a client logs in with, and that every event carries.
    pub name: String,
    /// Human, agent or service.
    pub kind: wire::PrincipalKind,
    /// For an agent: the principal it acts for, as configured and never as the client says.
    pub on_behalf_of: Option<String>,
    /// Who it is: the same for all accounts of one person, and for an agent the person it acts for. Nobody decides about what
    /// is their own, by whichever account.
    pub person: String,
    /// The key that its decisions about others' commands must be signed by: an Ed25519 public key in hexadecimal.
    pub review_key: Option<String>,
    /// What it is a member of, for rules to name.
    pub groups: Vec<String>,
    /// The targets it may use, by name; `*` stands for every target.
    pub targets: Vec<String>,
    /// What of the evidence it may read.
    pub evidence: EvidenceRight,
    /// Which sessions it may end.
    pub kill: KillRight,
    /// Whether it may keep evidence from expiring, and let it expire again.
    pub hold: HoldRight,
    /// Whether it may ask the evidence for a value by its fingerprint. That needs a right of its own, since whoever may
    /// try values learns which of them were seen.
    pub evidence_fingerprint: bool,
    /// How much it may use of a gate.
    pub limits: PrincipalLimits,
}

/// A principal that has proved itself, and the token it did so with.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// Who it is.
    pub principal: Arc<Principal>,
    /// The id of the token; the id is public, the secret behind it is not kept.
    pub token_id: String,
}

impl Authenticated {
    /// The principal as an event's header carries it.
    #[must_use]
    pub fn to_wire(&self) -> wire::Principal {
        wire::Principal {
            name: self.principal.name.clone(),
            kind: self.principal.kind.into(),
            on_behalf_of: self.principal.on_behalf_of.clone().unwrap_or_default(),
            token_id: self.token_id.clone(),
        }
    }
}

/// The longest name of a principal, in bytes: PostgreSQL clients cut names of users at 63.
const PRINCIPAL_NAME_BYTES_MAX: usize = 63;
/// The name under which the gateway records what it does itself.
const NAME_OF_THE_GATEWAY: &str = "retrace";

/// Says what is wrong with a principal's name, if anything is.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > PRINCIPAL_NAME_BYTES_MAX {
        return Err("the name of a principal must have from 1 to 63 bytes");
    }
    if name.chars().any(char::is_control) {
        return Err("the name of a principal must have no control characters");
    }
    if name == NAME_OF_THE_GATEWAY {
        return Err("the name retrace is the gateway's own: choose another for the principal");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Principal {
        Principal {
            name: "bot".into(),
            kind: wire::PrincipalKind::Agent,
            on_behalf_of: Some("ann".into()),
            person: "ann".into(),
            review_key: None,
            groups: Vec::new(),
            targets: Vec::new(),
            evidence: EvidenceRight::default(),
            kill: KillRight::default(),
            hold: HoldRight::default(),
            evidence_fingerprint: false,
            limits: PrincipalLimits::default(),
        }
    }

    #[test]
    fn evidence_is_closed_by_default() {
        assert_eq!(EvidenceRight::default(), EvidenceRight::None);
    }

    #[test]
    fn the_wire_form_carries_kind_delegation_and_token() {
        let authenticated = Authenticated { principal: Arc::new(agent()), token_id: "0a1b2c3d".into() };
        let expect = wire::Principal {
            name: "bot".into(),
            kind: wire::PrincipalKind::Agent as i32,
            on_behalf_of: "ann".into(),
            token_id: "0a1b2c3d".into(),
        };
        assert_eq!(authenticated.to_wire(), expect);
    }
}
