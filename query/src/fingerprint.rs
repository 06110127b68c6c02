//! `fingerprint('…')`: asking who saw a value, without the value in what is asked of the rows or recorded.
//!
//! It is no function of the engine. Before a statement is planned, each use is replaced by the fingerprints that the
//! value has, and in what is recorded by `fingerprint('[value]')`. It takes literals alone, needs a right of its own and
//! is limited, since whoever can try values learns which of them were seen.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Value, VisitMut,
    VisitorMut,
};
use retrace_access::Principal;
use retrace_policy::detect::Detector;
use retrace_policy::mask::{Fingerprint, Masker};

use crate::QueryError;
use crate::statement::Parsed;

const NAME: &str = "fingerprint";

/// What stands for a value in the record of a statement.
const RECORDED_VALUE: &str = "[value]";

/// The record of a statement that may hold a value and could not be parsed, so that nobody knows where.
const UNPARSED: &str = "[a statement with fingerprint(…) that is not valid]";

/// Different values that a principal may ask for within [`WINDOW`].
const DISTINCT_VALUES_MAX: usize = 50;

const WINDOW: Duration = Duration::from_secs(60 * 60);

/// Principals that are kept in mind; each is one of the configuration.
type ByPrincipal = HashMap<String, HashMap<Fingerprint, Instant>>;

/// Who asked for which values lately.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<ByPrincipal>);

impl Asked {
    /// Whether a principal may ask for these; if so they count.
    pub(crate) fn check(
        &self,
        who: &Principal,
        values: &[Fingerprint],
        now: Instant,
    ) -> Result<(), QueryError> {
        if !who.evidence_fingerprint {
            return Err(QueryError::FingerprintDenied { principal: who.name.clone() });
        }
        let mut by_principal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = by_principal.entry(who.name.clone()).or_default();
        asked.retain(|_, at| now.duration_since(*at) < WINDOW);
        for value in values {
            if asked.len() >= DISTINCT_VALUES_MAX && !asked.contains_key(value) {
                return Err(QueryError::FingerprintLimit { distinct_max: DISTINCT_VALUES_MAX });
            }
            asked.entry(*value).or_insert(now);
        }
        Ok(())
    }
}

/// What a statement asks by fingerprint, and how it is recorded.
pub(crate) struct Asks {
    recorded: String,
    is_asked: bool,
}

impl Asks {
    /// Looks at a statement: its text, the text that is to be recorded, and what its parser made of it, if anything.
    pub(crate) fn of(statement: &str, recorded: &str, parsed: Option<&Parsed>) -> Self {
        if !statement.to_ascii_lowercase().contains(NAME) {
            return Self { recorded: recorded.to_owned(), is_asked: false };
        }
        let Some(parsed) = parsed else {
            return Self { recorded: UNPARSED.to_owned(), is_asked: false };
        };
        let mut hiding = Hiding { found: false };
        let mut hidden = parsed.statement.clone();
        visit(&mut hidden, &mut hiding);
        if !hiding.found {
            return Self { recorded: recorded.to_owned(), is_asked: false };
        }
        let parameters = recorded.strip_prefix(statement).unwrap_or_default();
        Self { recorded: format!("{hidden}{}{parameters}", parsed.as_of), is_asked: true }
    }

    /// The text for the record, without the values.
    pub(crate) fn recorded(&self) -> String {
        self.recorded.clone()
    }

    /// Puts the fingerprints into the statement, if `check` lets these values be asked for.
    pub(crate) fn replace(
        &mut self,
        parsed: &mut Parsed,
        masker: &Masker,
        check: impl FnOnce(&[Fingerprint]) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        if !self.is_asked {
            return Ok(());
        }
        let mut replacing = Replacing { masker, values: Vec::new(), error: None };
        visit(&mut parsed.statement, &mut replacing);
        check(&replacing.values)?;
        replacing.error.map_or(Ok(()), Err)
    }
}

fn visit(statement: &mut Statement, visitor: &mut impl VisitorMut<Break = ()>) {
    match statement {
        // It gives whether it was left early, which the visitor knows itself.
        Statement::Statement(statement) => drop(statement.visit(visitor)),
        Statement::Explain(explain) => visit(&mut explain.statement, visitor),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => {}
    }
}

fn is_fingerprint(function: &Function) -> bool {
    let name = function.name.0.last().and_then(|part| part.as_ident());
    name.is_some_and(|name| name.value.eq_ignore_ascii_case(NAME))
}

/// Replaces every argument by what is recorded in its place.
struct Hiding {
    found: bool,
}

impl VisitorMut for Hiding {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && is_fingerprint(function)
        {
            self.found = true;
            let value = Expr::value(Value::SingleQuotedString(RECORDED_VALUE.to_owned()));
            if let FunctionArguments::List(list) = &mut function.args {
                list.args.truncate(1);
                list.args.fill(FunctionArg::Unnamed(FunctionArgExpr::Expr(value)));
            } else {
                *expr = value;
            }
        }
        ControlFlow::Continue(())
    }
}

struct Replacing<'a> {
    masker: &'a Masker,
    values: Vec<Fingerprint>,
    error: Option<QueryError>,
}

impl VisitorMut for Replacing<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match self.replaced(expr) {
            Ok(Some(replaced)) => {
                *expr = replaced;
                ControlFlow::Continue(())
            }
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

impl Replacing<'_> {
    /// What stands in the place of an expression that asks: a value can have several fingerprints, so that `=` becomes
    /// IN.
    fn replaced(&mut self, expr: &Expr) -> Result<Option<Expr>, QueryError> {
        match expr {
            Expr::BinaryOp { left, op: op @ (BinaryOperator::Eq | BinaryOperator::NotEq), right } => {
                let (asked, other) = match (left.as_ref(), right.as_ref()) {
                    (Expr::Function(asked), other) | (other, Expr::Function(asked))
                        if is_fingerprint(asked) =>
                    {
                        (asked, other)
                    }
                    _ => return Ok(None),
                };
                let list = self.literals(asked)?;
                let negated = *op == BinaryOperator::NotEq;
                Ok(Some(Expr::InList { expr: Box::new(other.clone()), list, negated }))
            }
            Expr::InList { expr, list, negated } if list.iter().any(asks) => {
                let mut literals = Vec::new();
                for item in list {
                    match item {
                        Expr::Function(asked) if is_fingerprint(asked) => {
                            literals.extend(self.literals(asked)?)
                        }
                        other => literals.push(other.clone()),
                    }
                }
                Ok(Some(Expr::InList { expr: expr.clone(), list: literals, negated: *negated }))
            }
            Expr::Function(asked) if is_fingerprint(asked) => match self.literals(asked)?.as_slice() {
                [one] => Ok(Some(one.clone())),
                _ => Err(refused(
                    "this value has several fingerprints: compare it by = or IN, or name its kind",
                )),
            },
            _ => Ok(None),
        }
    }

    fn literals(&mut self, function: &Function) -> Result<Vec<Expr>, QueryError> {
        let FunctionArguments::List(list) = &function.args else { return Err(usage()) };
        let texts: Option<Vec<&str>> = list.args.iter().map(text).collect();
        let found = match texts.as_deref() {
            Some([value]) => self.masker.fingerprints_of(value, None),
            Some([value, kind]) => match kind.parse::<Detector>() {
                Ok(detector) => self.masker.fingerprints_of(value, Some(detector)),
                // Not the name of a detector, so that of a mask of columns.
                Err(_) => vec![self.masker.fingerprint_in_column(value, kind)],
            },
            _ => return Err(usage()),
        };
        if found.is_empty() {
            return Err(refused(&format!(
                "no detector finds a value in it; name its kind, as in fingerprint('…', 'email'): {}",
                kinds()
            )));
        }
        self.values.extend(&found);
        Ok(found.iter().map(|it| Expr::value(Value::SingleQuotedString(hex(it)))).collect())
    }
}

fn asks(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function) if is_fingerprint(function))
}

/// The text of an argument, if it is a literal.
fn text(argument: &FunctionArg) -> Option<&str> {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) = argument else { return None };
    match &value.value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
        Value::DollarQuotedString(text) => Some(&text.value),
        _ => None,
    }
}

fn usage() -> QueryError {
    refused(&format!(
        "it takes the value as a literal, and perhaps its kind as another, or the name of the [[mask]] that hides \
         the column it stood in: {}",
        kinds()
    ))
}

fn kinds() -> String {
    Detector::ALL.map(Detector::name).join(", ")
}

fn refused(why: &str) -> QueryError {
    QueryError::Refused(format!("fingerprint('…'): {why}"))
}

/// As the column `fingerprint` of `masked_values` has it.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use retrace_access::EvidenceRight;
    use retrace_policy::mask::FingerprintKey;
    use retrace_proto::wire::PrincipalKind;

    use super::*;
    use crate::right::Right;
    use crate::statement;

    fn principal(evidence_fingerprint: bool) -> Principal {
        Principal {
            name: "auditor".to_owned(),
            kind: PrincipalKind::Human,
            on_behalf_of: None,
            person: "auditor".to_owned(),
            review_key: None,
            groups: Vec::new(),
            targets: Vec::new(),
            evidence: EvidenceRight::All,
            evidence_fingerprint,
            kill: retrace_access::KillRight::None,
            hold: retrace_access::HoldRight::None,
            limits: retrace_access::PrincipalLimits::default(),
        }
    }

    /// The statement as it is planned and as it is recorded.
    fn asked(text: &str) -> Result<(String, String), QueryError> {
        let parsed = statement::parse(text, &Right::All);
        let mut asks = Asks::of(text, text, parsed.as_ref().ok());
        let mut parsed = parsed.unwrap();
        asks.replace(&mut parsed, &Masker::everything(FingerprintKey::new(b"key")), |_| Ok(()))?;
        Ok((parsed.statement.to_string(), asks.recorded()))
    }

    #[test]
    fn equality_becomes_membership_and_the_value_is_in_neither_text() {
        let (planned, recorded) =
            asked("SELECT a FROM masked_values WHERE fingerprint = fingerprint('4111 1111 1111 1111')")
                .unwrap();
        assert!(planned.contains("WHERE fingerprint IN ('"), "{planned}");
        assert_eq!(recorded, "SELECT a FROM masked_values WHERE fingerprint = fingerprint('[value]')");
        let (turned, _) =
            asked("SELECT a FROM masked_values WHERE FINGERPRINT('4111-1111-1111-1111') = fingerprint")
                .unwrap();
        assert_eq!(planned, turned);
        let (not, _) = asked("SELECT 1 WHERE 'x' <> fingerprint('4111111111111111')").unwrap();
        assert!(not.contains("NOT IN"), "{not}");
        let (listed, _) = asked("SELECT 1 WHERE 'x' IN (fingerprint('a@example.com'), 'y')").unwrap();
        assert!(listed.contains(", 'y')") && !listed.contains('@'), "{listed}");
        let (plain, recorded) = asked("SELECT fingerprint('secret-7', 'email')").unwrap();
        assert!(!plain.contains("secret-7") && !recorded.contains("secret-7"), "{plain} {recorded}");
    }

    #[test]
    fn what_is_no_literal_or_no_value_is_refused() {
        for text in [
            "SELECT fingerprint(statement) FROM commands",
            "SELECT fingerprint($1)",
            "SELECT fingerprint()",
            "SELECT fingerprint('x')",
            "SELECT fingerprint('a@example.com' || 'x')",
            "SELECT fingerprint('a@example.com 4111111111111111')",
            "SELECT fingerprint(DISTINCT 'x', 'email', 'email')",
        ] {
            assert!(matches!(asked(text), Err(QueryError::Refused(_))), "{text}");
        }
    }

    #[test]
    fn a_statement_that_cannot_be_parsed_is_not_recorded_with_its_value() {
        let text = "SELECT fingerprint('078-05-1120') FRM x y z";
        assert!(statement::parse(text, &Right::All).is_err());
        assert_eq!(Asks::of(text, text, None).recorded(), UNPARSED);
        let other = "SELECT 1";
        assert_eq!(Asks::of(other, other, None).recorded(), other);
    }

    #[test]
    fn it_needs_its_own_right_and_takes_so_many_values_an_hour() {
        let asked = Asked::default();
        let now = Instant::now();
        let value = |number: usize| [u8::try_from(number).unwrap(); 16];
        let denied = asked.check(&principal(false), &[value(0)], now);
        assert!(matches!(denied, Err(QueryError::FingerprintDenied { .. })));
        let who = principal(true);
        for number in 0..DISTINCT_VALUES_MAX {
            asked.check(&who, &[value(number)], now).unwrap();
        }
        asked.check(&who, &[value(0)], now).expect("one that was asked for already");
        let beyond = asked.check(&who, &[value(DISTINCT_VALUES_MAX)], now);
        assert!(matches!(beyond, Err(QueryError::FingerprintLimit { .. })));
        asked.check(&who, &[value(DISTINCT_VALUES_MAX)], now + WINDOW).expect("an hour later");
    }
}
