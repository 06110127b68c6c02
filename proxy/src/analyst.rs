//! Answers a session machine's questions about statements and the target's catalogue.

use std::sync::Arc;

use bytes::Bytes;
use retrace_proxy_core::postgres::{Analysed, SessionRules};

use crate::catalogue::Keeper;
use crate::gateway::{Gateway, Target};
use crate::loaded::Loaded;
use crate::parser::Parser;
use crate::session::Entrance;

/// What a session asks.
#[derive(Clone)]
pub(crate) struct Analyst {
    gateway: Arc<Gateway>,
    parser: Arc<Parser>,
    target: Arc<Target>,
    /// Keeps the catalogue, where statements are judged by it.
    keeper: Option<Arc<Keeper>>,
}

fn go_by_names(rules: &SessionRules) -> bool {
    !rules.scope.is_open() && rules.scope.reads().names()
}

impl Analyst {
    pub(crate) fn new(gateway: &Arc<Gateway>, entrance: &Entrance) -> Self {
        let rules = entrance.rules.as_ref();
        let needs_catalogue =
            rules.is_some_and(|rules| !entrance.target.columns.is_empty() || go_by_names(rules));
        let keeper = entrance.loaded.keepers.get(&entrance.target.name).filter(|_| needs_catalogue);
        Self {
            gateway: gateway.clone(),
            parser: gateway.parser.clone(),
            target: entrance.target.clone(),
            keeper: keeper.cloned(),
        }
    }

    /// Goes by other rules. Who had no catalogue and needs one takes that of the configuration they came with, unless the name of
    /// the target means another database there; then there is none, and what goes by names is refused.
    pub(crate) fn adopt(&mut self, rules: &SessionRules, loaded: &Loaded) {
        let is_same = |target: &Target| {
            (&target.address, &target.database) == (&self.target.address, &self.target.database)
        };
        let same = loaded.targets.get(&self.target.name).is_some_and(|target| is_same(target));
        if self.keeper.is_none() && go_by_names(rules) && same {
            self.keeper = loaded.keepers.get(&self.target.name).cloned();
        }
    }

    /// The answer, if it is at hand.
    pub(crate) fn at_hand(&self, sql: Option<&Bytes>) -> Option<Analysed> {
        let columns = match &self.keeper {
            None => None,
            Some(keeper) => Some(keeper.at_hand()?),
        };
        let facts = match sql {
            None => None,
            Some(sql) => Some((sql.clone(), self.parser.at_hand(sql)?)),
        };
        Some(Analysed { facts, columns })
    }

    /// The answer, once it is found out.
    pub(crate) async fn analyse(self, sql: Option<Bytes>) -> Analysed {
        let facts = match sql {
            None => None,
            Some(sql) => match self.parser.at_hand(&sql) {
                Some(outcome) => Some((sql, outcome)),
                None => Some((sql.clone(), self.parser.facts(sql).await)),
            },
        };
        let columns = match &self.keeper {
            None => None,
            Some(keeper) => keeper.current(&self.gateway).await,
        };
        Analysed { facts, columns }
    }

    /// What was read of the catalogue before now is out of date.
    pub(crate) fn catalogue_is_old(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.is_old();
        }
    }
}
