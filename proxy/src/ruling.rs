//! The rules of a session that is open while the configuration is read again.

use std::net::IpAddr;
use std::sync::Arc;

use retrace_proxy_core::postgres::{Input, SessionRules};

use crate::analyst::Analyst;
use crate::gateway::Gateway;
use crate::session::Entrance;

/// Whose rules they are, and of which configuration.
#[derive(Debug)]
pub(crate) struct Ruling {
    /// `None` for the gate's own, which go by none.
    who: Option<Who>,
    generation: u64,
}

#[derive(Debug)]
struct Who {
    principal: String,
    target: String,
    client_address: Option<IpAddr>,
}

impl Ruling {
    pub(crate) fn of(entrance: &Entrance) -> Self {
        let who = entrance.rules.as_ref().map(|rules| Who {
            principal: entrance.principal.name.clone(),
            target: entrance.target.name.clone(),
            client_address: rules.client_address,
        });
        Self { who, generation: entrance.loaded.generation }
    }

    /// What the session is to be told, if the configuration is another one by now. Whom or what it names no more may do nothing.
    pub(crate) fn news(&mut self, gateway: &Gateway, analyst: &mut Analyst) -> Option<Input<'static>> {
        if gateway.latest.generation() == self.generation {
            return None;
        }
        let loaded = gateway.latest.now();
        self.generation = loaded.generation;
        let who = self.who.as_ref()?;
        let rules = SessionRules {
            scope: Arc::new(loaded.policy.scope(&who.principal, &who.target)),
            client_address: who.client_address,
            grants_key: gateway.grants_key.clone(),
        };
        analyst.adopt(&rules, &loaded);
        Some(Input::Ruled(rules, loaded.policy_version.clone()))
    }
}
