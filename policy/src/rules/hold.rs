//! What `@hold` asks for.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use cedar_policy::Policy;
use retrace_proto::wire::PrincipalKind;

use super::{World, WorldPrincipal};

/// How long a command waits for a decision if the rule does not say.
const WAIT_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// How long a rule may let it wait.
const WAIT_MAX: Duration = Duration::from_secs(60 * 60);
/// How long a review stays open if the rule does not say.
const OPEN_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// How long a grant is good if the rule does not say.
const GRANT_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// How long reviews and grants may be: as long as any control record is good for (30 days), with a day to spare.
const LIFETIME_MAX: Duration = Duration::from_secs(29 * 24 * 60 * 60);
/// How many people a rule may ask for.
const APPROVALS_MAX: u32 = 16;
/// How long the text of a `@hold` may be, in bytes.
const TEXT_BYTES_MAX: usize = 500;

/// Who may decide.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reviewer {
    /// Every member of a group.
    Group(String),
    /// One principal.
    Principal(String),
}

impl fmt::Display for Reviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(name) => write!(f, "group {name}"),
            Self::Principal(name) => write!(f, "principal {name}"),
        }
    }
}

/// What a rule that holds asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldTerms {
    /// The rule.
    pub rule: String,
    /// What it says to who waits and to who decides.
    pub text: String,
    /// Who may decide, at least one.
    pub reviewers: BTreeSet<Reviewer>,
    /// How many different people must approve, at least one.
    pub approvals: u32,
    /// How long the command waits in its client's connection.
    pub wait: Duration,
    /// How long the review may be decided, from its request on, whether its client is still there or not.
    pub open: Duration,
    /// How long an approval is good, from the decision on.
    pub grant: Duration,
    /// Whether an approval is good for one run. If not, it is for each within that time.
    pub once: bool,
    /// Whether an approval must come with a reason.
    pub reason_required: bool,
}

/// The annotations that say something.
pub(super) const ANNOTATIONS: [&str; 10] =
    ["id", "advice", "hold", "reviewers", "approvals", "wait", "open", "grant", "runs", "reason"];

/// Those that say something of a `@hold` alone.
pub(super) const OF_HOLDS: [&str; 7] = ["reviewers", "approvals", "wait", "open", "grant", "runs", "reason"];

/// What is wrong with the annotations of a rule, and what to do.
pub(super) type Wrong = (String, String);

/// Reads what a rule with `@hold` asks for.
pub(super) fn terms(policy: &Policy, rule: &str, world: &World) -> Result<HoldTerms, Wrong> {
    let text = policy.annotation("hold").unwrap_or_default();
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err((
            "@hold has no text, or one that cannot be shown".to_owned(),
            format!(
                "say to who waits and who decides what this is about, in 1 to {TEXT_BYTES_MAX} bytes: @hold(\"changes of \
                 definitions are reviewed\")"
            ),
        ));
    }
    let approvals = match policy.annotation("approvals").map(str::parse) {
        None => 1,
        Some(Ok(count @ 1..=APPROVALS_MAX)) => count,
        Some(_) => {
            return Err((
                "@approvals is not the number of people who must approve".to_owned(),
                format!("give a number from 1 to {APPROVALS_MAX}: @approvals(\"2\")"),
            ));
        }
    };
    let reviewers = reviewers(policy.annotation("reviewers"), world)?;
    let people = people(&reviewers, world);
    if people < approvals as usize {
        return Err((
            format!("it asks for {approvals} to approve, and of its reviewers {people} are people"),
            "ask for fewer, or name more people: agents and services do not decide, and accounts of one `person` are one"
                .to_owned(),
        ));
    }
    Ok(HoldTerms {
        rule: rule.to_owned(),
        text: text.to_owned(),
        reviewers,
        approvals,
        wait: duration(policy, "wait", WAIT_DEFAULT, WAIT_MAX)?,
        open: duration(policy, "open", OPEN_DEFAULT, LIFETIME_MAX)?,
        grant: duration(policy, "grant", GRANT_DEFAULT, LIFETIME_MAX)?,
        once: !either(policy, "runs", ["once", "many"])?,
        reason_required: either(policy, "reason", ["optional", "required"])?,
    })
}

/// Whether an annotation says the second of two words. The first is what it says if it is left out.
fn either(policy: &Policy, name: &str, [default, other]: [&str; 2]) -> Result<bool, Wrong> {
    match policy.annotation(name) {
        None => Ok(false),
        Some(given) if given == default => Ok(false),
        Some(given) if given == other => Ok(true),
        Some(_) => Err((
            format!("@{name} says neither \"{default}\" nor \"{other}\""),
            format!("say one of them, or leave it out, which is \"{default}\""),
        )),
    }
}

fn reviewers(given: Option<&str>, world: &World) -> Result<BTreeSet<Reviewer>, Wrong> {
    let given = given.unwrap_or_default();
    let mut reviewers = BTreeSet::new();
    for one in given.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let reviewer = match one.split_once(' ').map(|(what, name)| (what, name.trim())) {
            Some(("group", name)) if world.groups().contains(name) => Reviewer::Group(name.to_owned()),
            Some(("principal", name)) if world.principals.iter().any(|it| it.name == name) => {
                Reviewer::Principal(name.to_owned())
            }
            Some((what @ ("group" | "principal"), name)) => {
                let has = match what {
                    "group" => "no [[principal]] is in a group",
                    _ => "no [[principal]] is",
                };
                return Err((
                    format!("@reviewers names `{one}`, and {has} named `{name}`"),
                    "name one that there is, or add it to retrace.toml".to_owned(),
                ));
            }
            _ => {
                return Err((
                    format!("@reviewers names `{one}`, which is neither a group nor a principal"),
                    "write @reviewers(\"group dba, principal ann\")".to_owned(),
                ));
            }
        };
        reviewers.insert(reviewer);
    }
    if reviewers.is_empty() {
        return Err((
            "it holds, and nobody may decide".to_owned(),
            "name who may: @reviewers(\"group dba, principal ann\")".to_owned(),
        ));
    }
    Ok(reviewers)
}

/// How many people may decide.
fn people(reviewers: &BTreeSet<Reviewer>, world: &World) -> usize {
    let may = |principal: &&WorldPrincipal| {
        reviewers.iter().any(|reviewer| match reviewer {
            Reviewer::Group(group) => principal.groups.contains(group),
            Reviewer::Principal(name) => *name == principal.name,
        })
    };
    let is_human = |principal: &&WorldPrincipal| principal.kind == PrincipalKind::Human;
    let people = world.principals.iter().filter(is_human).filter(may).map(|principal| &principal.person);
    people.collect::<BTreeSet<_>>().len()
}

fn duration(policy: &Policy, name: &str, default: Duration, max: Duration) -> Result<Duration, Wrong> {
    let Some(given) = policy.annotation(name) else { return Ok(default) };
    match humantime::parse_duration(given) {
        Ok(duration) if duration >= Duration::from_secs(1) && duration <= max => Ok(duration),
        _ => Err((
            format!("@{name} is not a time from 1s to {}", humantime::format_duration(max)),
            format!("write @{name}(\"{}\")", humantime::format_duration(default)),
        )),
    }
}
