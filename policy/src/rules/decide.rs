//! The answer to one question.

use std::net::IpAddr;
use std::sync::Arc;

use cedar_policy::{Authorizer, Context, Decision, Entities, PolicyId, PolicySet, Request};

use super::context::{Moment, context};
use super::hold::HoldTerms;
use super::scope::{Scope, Slice};
use super::statement::{Action, Ask};
use crate::decide::Denial;

/// What is asked besides who and where.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// From where, if a client asks.
    pub client_address: Option<IpAddr>,
    /// When.
    pub moment: Moment,
    /// Which statement, if it is about one.
    pub statement: Option<&'a Ask>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It may be done.
    Allow,
    /// It may not.
    Deny(Why),
    /// It may be once all of these are satisfied.
    Hold(Vec<Arc<HoldTerms>>),
}

/// Why something is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// No rule permits it.
    NothingPermits,
    /// This rule forbids it; the first by name, if several do.
    Forbidden {
        /// Its name.
        rule: String,
        /// What it says to who is refused.
        advice: Option<String>,
    },
    /// This rule could not be evaluated.
    Failed {
        /// Its name.
        rule: String,
    },
    /// Neither of these said more than that what it asks for is not known of the statement.
    Unknown {
        /// As it would stand without that.
        why: Box<Why>,
        /// What is not known.
        what: &'static str,
    },
}

impl Why {
    /// In the words that a client gets whose statement is denied.
    #[must_use]
    pub fn denial(&self) -> Denial {
        let (rule, says) = match self {
            Self::NothingPermits => ("policy.default".to_owned(), "no rule permits this".to_owned()),
            Self::Forbidden { rule, .. } => (of_policy(rule), format!("the rule \"{rule}\" forbids this")),
            Self::Failed { rule } => {
                (of_policy(rule), format!("the rule \"{rule}\" cannot decide about this"))
            }
            Self::Unknown { why, what } => {
                let denial = why.denial();
                return Denial { message: format!("{}: {what}", denial.message).into(), ..denial };
            }
        };
        let advice = match self {
            Self::Forbidden { advice: Some(advice), .. } => advice.as_str(),
            _ => "Ask whoever runs the gate what its rules allow.",
        };
        Denial {
            rule: rule.into(),
            sqlstate: "42501",
            message: format!("retrace: {says}").into(),
            hint: format!("{advice} Nothing of this command was executed.").into(),
        }
    }
}

impl Why {
    /// The same, and that something was not known, if that may be why.
    fn of(self, statement: Option<&Ask>) -> Self {
        match (&self, statement.and_then(Ask::unknown)) {
            (Self::NothingPermits | Self::Failed { .. }, Some(what)) => {
                Self::Unknown { why: Box::new(self), what }
            }
            _ => self,
        }
    }
}

/// How the record names a rule of the policy.
#[must_use]
pub fn of_policy(rule: &str) -> String {
    format!("policy:{rule}")
}

impl Scope {
    /// Decides about an action.
    #[must_use]
    pub fn decide(&self, action: Action, question: &Question<'_>) -> Ruling {
        let slice = self.slice(action);
        if slice.open {
            return Ruling::Allow;
        }
        let (principal, resource) = (self.principal.clone(), self.target.clone());
        let Question { client_address, moment, statement } = *question;
        let context = context(client_address, moment, statement, slice.reads);
        slice.ask(&self.entities, (principal, resource), context)
    }

    /// Decides about a statement: each thing that it does must be allowed, and what holds any of them holds it.
    #[must_use]
    pub fn decide_statement(&self, question: &Question<'_>) -> Ruling {
        let actions = question.statement.map(|ask| &ask.actions);
        let mut held = Vec::new();
        for action in actions.into_iter().flatten() {
            match self.decide(*action, question) {
                Ruling::Allow => {}
                Ruling::Hold(terms) => {
                    for terms in terms {
                        if !held.contains(&terms) {
                            held.push(terms);
                        }
                    }
                }
                Ruling::Deny(why) => return Ruling::Deny(why.of(question.statement)),
            }
        }
        if held.is_empty() { Ruling::Allow } else { Ruling::Hold(held) }
    }
}

type Ends = (cedar_policy::EntityUid, cedar_policy::EntityUid);

impl Slice {
    fn ask(&self, entities: &Entities, (principal, resource): Ends, context: Context) -> Ruling {
        let request = Request::new(principal, self.action.clone(), resource, context, None)
            .expect("a request is checked by a schema alone, and none is given");
        if let Err(why) = self.permitted(&request, entities) {
            return Ruling::Deny(why);
        }
        match forbidding(&request, &self.holds, entities) {
            Err(why) => Ruling::Deny(why),
            Ok(rules) if rules.is_empty() => Ruling::Allow,
            Ok(rules) => Ruling::Hold(rules.iter().map(|rule| self.terms[rule].clone()).collect()),
        }
    }

    fn permitted(&self, request: &Request, entities: &Entities) -> Result<(), Why> {
        let response = Authorizer::new().is_authorized(request, &self.plain, entities);
        failed(&response)?;
        match (response.decision(), response.diagnostics().reason().min()) {
            (Decision::Allow, _) => Ok(()),
            (Decision::Deny, Some(rule)) => {
                let advice = self.plain.annotation(rule, "advice").map(str::to_owned);
                Err(Why::Forbidden { rule: rule.to_string(), advice })
            }
            (Decision::Deny, None) => Err(Why::NothingPermits),
        }
    }
}

/// Those of the rules, all of which forbid, that do forbid it.
fn forbidding(request: &Request, rules: &PolicySet, entities: &Entities) -> Result<Vec<PolicyId>, Why> {
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    let response = Authorizer::new().is_authorized(request, rules, entities);
    failed(&response)?;
    let mut rules: Vec<_> = response.diagnostics().reason().cloned().collect();
    rules.sort();
    Ok(rules)
}

fn failed(response: &cedar_policy::Response) -> Result<(), Why> {
    use cedar_policy::AuthorizationError::PolicyEvaluationError;
    let failed = response.diagnostics().errors().map(|error| match error {
        PolicyEvaluationError(error) => error.policy_id(),
    });
    failed.min().map_or(Ok(()), |rule| Err(Why::Failed { rule: rule.to_string() }))
}
