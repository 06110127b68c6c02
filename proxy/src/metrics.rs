//! What a proxy counts, for Prometheus. No label has a value of the traffic: they are names of the configuration, or of a
//! closed set.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use retrace_eventlog::Timing;
use retrace_proto::wire::{Durability, MaskKind, command_refused, login_refused, session_closed};
use retrace_proxy_core::postgres::Tally;

use crate::gateway::Target;
use crate::limits::Limit;

/// The counters of a proxy. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct ProxyMetrics {
    pub(crate) sessions: Gauge,
    opened: Family<TargetLabel, Counter>,
    closed: Family<ReasonLabel, Counter>,
    commands: Family<CommandLabels, Counter>,
    waits: Family<DurabilityLabel, Timing>,
    masked: Family<KindLabel, Counter>,
    logins_refused: Family<ReasonLabel, Counter>,
    limited: Family<LimitLabel, Counter>,
    slowed: Family<LimitLabel, Timing>,
    credentials_refused: Family<TargetLabel, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TargetLabel {
    target: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CommandLabels {
    target: String,
    /// `forwarded`, or why not.
    outcome: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DurabilityLabel {
    durability: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

/// The word of a value of the schema: `REASON_CLIENT_CLOSED` is `client_closed` here.
fn word(name: &'static str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

impl ProxyMetrics {
    /// Registers what it counts.
    pub fn register(&self, registry: &mut Registry) {
        let all = registry.sub_registry_with_prefix("retrace");
        all.register("sessions_open", "Sessions that are open", self.sessions.clone());
        all.register("sessions_opened", "Sessions that were opened, by target", self.opened.clone());
        all.register("sessions_closed", "Sessions that ended, by reason", self.closed.clone());
        let help = "Commands by target and outcome: forwarded, or why they were refused";
        all.register("commands", help, self.commands.clone());
        let help = "How long forwarded commands waited for their records, by durability of the target";
        let unit = prometheus_client::registry::Unit::Seconds;
        all.register_with_unit("command_wait", help, unit, self.waits.clone());
        let help = "Values that were masked, by kind; `unlisted` are those beyond what one event lists";
        all.register("masked_values", help, self.masked.clone());
        all.register("logins_refused", "Logins that were refused, by reason", self.logins_refused.clone());
        let help = "Logins of the gate that a target refused for the gate's credential";
        all.register("target_credential_refused", help, self.credentials_refused.clone());
        let help = "How often somebody came to a limit and was refused, shown out or slowed down";
        all.register("limited", help, self.limited.clone());
        let help = "How long sessions waited because their principals did more than they may";
        let unit = prometheus_client::registry::Unit::Seconds;
        all.register_with_unit("slowed", help, unit, self.slowed.clone());
        // One that nobody comes to is there too, as 0.
        Limit::ALL.into_iter().for_each(|limit| self.limited(limit, 0));
    }

    /// Counts that somebody came to a limit, so often.
    pub(crate) fn limited(&self, limit: Limit, count: u64) {
        self.limited.get_or_create(&LimitLabel { limit: limit.name() }).inc_by(count);
    }

    /// Counts a login that was refused.
    pub(crate) fn login_refused(&self, reason: login_refused::Reason) {
        if let Some(limit) = Limit::of_refusal(reason) {
            self.limited(limit, 1);
        }
        let reason = word(reason.as_str_name(), "REASON_");
        self.logins_refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a login of the gate that a target refused for its credential.
    pub(crate) fn credential_refused(&self, target: &Target) {
        self.credentials_refused.get_or_create(&TargetLabel { target: target.name.clone() }).inc();
    }

    /// Counts the end of a session's stream.
    pub(crate) fn session_closed(&self, reason: &str) {
        self.closed.get_or_create(&ReasonLabel { reason: reason.to_owned() }).inc();
    }

    /// The counters of a session that opens now.
    pub(crate) fn open_session(&self, target: &Target) -> SessionCounters {
        self.sessions.inc();
        let labels =
            |outcome: &str| CommandLabels { target: target.name.clone(), outcome: outcome.to_owned() };
        let durability = match target.durability {
            Durability::Command => "command",
            Durability::Relaxed => "relaxed",
            Durability::Exchange | Durability::Unspecified => "exchange",
        };
        let durability = DurabilityLabel { durability: durability.to_owned() };
        let counters = SessionCounters {
            opened: self.opened.get_or_create_owned(&TargetLabel { target: target.name.clone() }),
            forwarded: self.commands.get_or_create_owned(&labels("forwarded")),
            waits: self.waits.get_or_create_owned(&durability),
            target: target.name.clone(),
            metrics: self.clone(),
        };
        counters.opened.inc();
        counters
    }
}

/// The counters of one session. What every command passes is at hand; the others are looked up as they come.
#[derive(Debug)]
pub(crate) struct SessionCounters {
    metrics: ProxyMetrics,
    target: String,
    opened: Counter,
    forwarded: Counter,
    waits: Timing,
}

impl SessionCounters {
    /// Counts what the machine did, and takes it out of its tally.
    pub(crate) fn count(&self, tally: &mut Tally) {
        if !tally.waits_us.is_empty() {
            self.forwarded.inc_by(tally.waits_us.len() as u64);
            tally.waits_us.drain(..).for_each(|us| self.waits.note_us(us));
        }
        for reason in tally.refused.drain(..) {
            self.refused(reason);
        }
        for reason in tally.closed.drain(..) {
            self.metrics.session_closed(&word(reason.as_str_name(), "REASON_"));
            if reason == session_closed::Reason::Rolled {
                self.opened.inc();
            }
        }
        for slowed in tally.slowed.drain(..) {
            self.metrics.limited(slowed.into(), 1);
        }
        for (slowed, us) in tally.waited_us.drain(..) {
            let limit = Limit::from(slowed).name();
            self.metrics.slowed.get_or_create(&LimitLabel { limit }).note_us(us);
        }
        for (kind, count) in tally.take_masked() {
            let kind = match kind {
                MaskKind::Unspecified => "unlisted".to_owned(),
                kind => word(kind.as_str_name(), "MASK_KIND_"),
            };
            self.metrics.masked.get_or_create(&KindLabel { kind }).inc_by(count);
        }
    }

    fn refused(&self, reason: command_refused::Reason) {
        let outcome = word(reason.as_str_name(), "REASON_");
        let labels = CommandLabels { target: self.target.clone(), outcome };
        self.metrics.commands.get_or_create(&labels).inc();
    }
}

impl Drop for SessionCounters {
    fn drop(&mut self) {
        self.metrics.sessions.dec();
    }
}
