//! The rules that can concern one principal at one target, found once, so that a question is asked of few.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Effect, Entities, EntityUid, PolicyId, PolicySet, PrincipalConstraint,
    ResourceConstraint,
};

use jiff::tz::TimeZone;

use super::hold::HoldTerms;
use super::load::Rule;
use super::statement::Action;
use super::world::uid;
use super::{Moment, Policy, Reads};

/// The rules that can concern a principal at a target.
#[derive(Clone, Debug)]
pub struct Scope {
    pub(super) principal: EntityUid,
    pub(super) target: EntityUid,
    pub(super) entities: Arc<Entities>,
    time_zone: TimeZone,
    slices: HashMap<Action, Arc<Slice>>,
}

/// Those of one action.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub(super) action: EntityUid,
    /// Those that permit, and those that forbid without `@hold`.
    pub(super) plain: PolicySet,
    /// Those that forbid with `@hold`.
    pub(super) holds: PolicySet,
    pub(super) terms: HashMap<PolicyId, Arc<HoldTerms>>,
    /// What any of them reads.
    pub(super) reads: Reads,
    /// Whether nothing but the names of principal, action and target decides, and it is allowed.
    pub(super) open: bool,
}

impl Policy {
    /// The rules that can concern a principal at a target.
    #[must_use]
    pub fn scope(&self, principal: &str, target: &str) -> Scope {
        let (principal, target) = (uid("Principal", principal), uid("Target", target));
        let actions = [Action::Connect].into_iter().chain(Action::OF_STATEMENTS);
        let slices = actions.map(|action| {
            let slice = self.slice(&principal, &uid("Action", action.name()), &target);
            (action, Arc::new(slice))
        });
        Scope {
            slices: slices.collect(),
            principal,
            target,
            entities: self.entities.clone(),
            time_zone: self.time_zone.clone(),
        }
    }

    /// Whether any rule about statements at a target reads what its catalogue tells, whoever asks.
    #[must_use]
    pub fn reads_names_at(&self, target: &str) -> bool {
        let target = uid("Target", target);
        let at = |rule: &&Rule| match rule.policy.resource_constraint() {
            ResourceConstraint::Eq(it) | ResourceConstraint::In(it) => it == target,
            _ => true,
        };
        self.rules.iter().filter(at).any(|rule| rule.reads.names())
    }

    pub(super) fn slice(&self, principal: &EntityUid, action: &EntityUid, resource: &EntityUid) -> Slice {
        let is_in =
            |one: &EntityUid, other: &EntityUid| one == other || self.entities.is_ancestor_of(other, one);
        let concerns = |rule: &&Rule| {
            let by_principal = match rule.policy.principal_constraint() {
                PrincipalConstraint::Any => true,
                PrincipalConstraint::Eq(it) => it == *principal,
                PrincipalConstraint::In(it) => is_in(principal, &it),
                PrincipalConstraint::Is(it) => it == *principal.type_name(),
                PrincipalConstraint::IsIn(kind, it) => {
                    kind == *principal.type_name() && is_in(principal, &it)
                }
            };
            let by_action = match rule.policy.action_constraint() {
                ActionConstraint::Any => true,
                ActionConstraint::Eq(it) => it == *action,
                ActionConstraint::In(any) => any.iter().any(|it| is_in(action, it)),
            };
            by_principal
                && by_action
                && match rule.policy.resource_constraint() {
                    ResourceConstraint::Any => true,
                    ResourceConstraint::Eq(it) => it == *resource,
                    ResourceConstraint::In(it) => is_in(resource, &it),
                    ResourceConstraint::Is(it) => it == *resource.type_name(),
                    ResourceConstraint::IsIn(kind, it) => {
                        kind == *resource.type_name() && is_in(resource, &it)
                    }
                }
        };
        Slice::new(action.clone(), self.rules.iter().filter(concerns))
    }
}

impl Slice {
    fn new<'a>(action: EntityUid, rules: impl Iterator<Item = &'a Rule>) -> Self {
        let (mut plain, mut holds) = (PolicySet::new(), PolicySet::new());
        let (mut terms, mut reads) = (HashMap::new(), Reads::default());
        let (mut permits, mut forbids) = (false, false);
        for rule in rules {
            reads |= rule.reads;
            let set = match &rule.hold {
                Some(hold) => {
                    terms.insert(rule.policy.id().clone(), hold.clone());
                    &mut holds
                }
                None => &mut plain,
            };
            set.add(rule.policy.clone()).expect("names of rules are unique");
            match rule.policy.effect() {
                Effect::Forbid => forbids = true,
                Effect::Permit => permits |= !rule.policy.has_non_scope_constraint(),
            }
        }
        Self { action, plain, holds, terms, reads, open: permits && !forbids }
    }
}

impl Scope {
    pub(super) fn slice(&self, action: Action) -> &Slice {
        &self.slices[&action]
    }

    /// The minute of a point in time, in microseconds since the Unix epoch, where the rules are read.
    #[must_use]
    pub fn moment(&self, unix_us: i64) -> Moment {
        Moment::of(unix_us, &self.time_zone)
    }

    /// What of a statement is read by any rule that can concern it.
    #[must_use]
    pub fn reads(&self) -> Reads {
        let mut reads = Reads::default();
        for action in Action::OF_STATEMENTS {
            reads |= self.slice(action).reads;
        }
        reads
    }

    /// Whether every statement is allowed, whatever it is, so that none need be looked at.
    #[must_use]
    pub fn is_open(&self) -> bool {
        Action::OF_STATEMENTS.iter().all(|action| self.slice(*action).open)
    }
}
