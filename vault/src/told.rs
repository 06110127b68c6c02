//! What is told of a store when somebody asks for it.

use std::collections::BTreeMap;
use std::sync::Weak;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Unit;
use tokio::time::Instant;

use crate::kept::Figures;
use crate::vault::Shared;

/// The ends of the token and of credentials, as they are when they are asked for.
#[derive(Debug)]
pub(crate) struct Told(pub(crate) Weak<Shared>);

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let kind = <ConstGauge<f64> as TypedMetric>::TYPE;
        debug_assert!(matches!(kind, MetricType::Gauge));
        if let Some(ends_at) = shared.token_ends_at() {
            let help = "Seconds until the gate's token at the secret store ends";
            let ends =
                encoder.encode_descriptor("retrace_vault_token_ends", help, Some(&Unit::Seconds), kind)?;
            ConstGauge::new(seconds_until(ends_at)).encode(ends)?;
        }
        // The same secret may be kept for two roles, and the same role in two ways: they are told as one.
        let mut kept: BTreeMap<String, Figures> = BTreeMap::new();
        let mut ready: BTreeMap<String, Figures> = BTreeMap::new();
        for one in shared.kept() {
            let figures = one.figures();
            for all in
                [Some(&mut kept), Some(&mut ready).filter(|_| !one.is_each_its_own)].into_iter().flatten()
            {
                let among = all.entry(one.name.clone());
                among.and_modify(|other| *other = other.and(figures)).or_insert(figures);
            }
        }
        let help = "Seconds for which new sessions have this credential if the secret store stays away; 0 if there is none";
        let name = "retrace_target_credential_ends";
        let mut ends = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?;
        for (name, figures) in &ready {
            let left = match figures.lends_until {
                None => 0.0,
                Some(None) => f64::INFINITY,
                Some(Some(at)) => seconds_until(at),
            };
            ConstGauge::new(left).encode(ends.encode_family(&[("credential", name.as_str())])?)?;
        }
        let help = "Leases of this credential that are in hand";
        let mut leases = encoder.encode_descriptor("retrace_target_leases", help, None, kind)?;
        for (name, figures) in &kept {
            let count = i64::try_from(figures.leases).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(leases.encode_family(&[("credential", name.as_str())])?)?;
        }
        let kind = <ConstCounter<u64> as TypedMetric>::TYPE;
        let help = "Credentials that were taken over, by name";
        let name = "retrace_target_credential_changes";
        let mut changes = encoder.encode_descriptor(name, help, None, kind)?;
        for (name, figures) in &kept {
            let labels = [("credential", name.as_str())];
            ConstCounter::new(figures.editions).encode(changes.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn seconds_until(at: Instant) -> f64 {
    at.saturating_duration_since(Instant::now()).as_secs_f64()
}
