use retrace_access::{Authenticated, EvidenceRight};

use crate::QueryError;

/// What a reader may see, once it is known that they may see something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// Every event.
    All,
    /// The events whose principal has this name.
    Own(String),
}

impl Right {
    /// The right of someone who proved who they are.
    pub(crate) fn of(caller: &Authenticated) -> Result<Self, QueryError> {
        match caller.principal.evidence {
            EvidenceRight::All => Ok(Self::All),
            EvidenceRight::Own => Ok(Self::Own(caller.principal.name.clone())),
            EvidenceRight::None => Err(QueryError::Denied { principal: caller.principal.name.clone() }),
        }
    }

    /// As the configuration and the record of the read spell it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Own(_) => "own",
        }
    }
}
