//! The file as it is written. Values that are checked further carry their place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use retrace_access::SecretRef;
use serde::Deserialize;
use toml::Spanned;

use super::credential::{Credential, Password};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    #[serde(default)]
    pub(super) proxy: Proxy,
    #[serde(default)]
    pub(super) query: Query,
    #[serde(default)]
    pub(super) health: Listener,
    #[serde(default)]
    pub(super) drain: Drain,
    #[serde(default)]
    pub(super) log: Log,
    #[serde(default)]
    pub(super) lake: Lake,
    pub(super) vault: Option<Spanned<Vault>>,
    #[serde(default)]
    pub(super) retention: Retention,
    #[serde(default)]
    pub(super) ingest: Ingest,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) policy: Policy,
    #[serde(default)]
    pub(super) principal: Vec<Principal>,
    #[serde(default)]
    pub(super) target: Vec<Spanned<Target>>,
    #[serde(default)]
    pub(super) mask: Vec<Mask>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proxy {
    #[serde(default)]
    pub(super) postgres: Listener,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    #[serde(default)]
    pub(super) grpc: Listener,
    #[serde(default)]
    pub(super) postgres: Listener,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    pub(super) listen: Option<Spanned<String>>,
}

/// How a process takes its leave.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drain {
    pub(super) grace_ms: Option<Spanned<u64>>,
    pub(super) wait_ms_max: Option<Spanned<u64>>,
}

/// The log: a folder of this machine, unless it is on Kafka.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) dir: Option<Spanned<PathBuf>>,
    pub(super) kafka: Option<Spanned<Kafka>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kafka {
    pub(super) topic_prefix: Option<Spanned<String>>,
    pub(super) events_partitions: Option<Spanned<u32>>,
    pub(super) control_partitions: Option<Spanned<u32>>,
    pub(super) replicas: Option<Spanned<u32>>,
    #[serde(default)]
    pub(super) accept_fewer_replicas: bool,
    #[serde(default)]
    pub(super) options: BTreeMap<Spanned<String>, toml::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lake {
    pub(super) dir: Option<Spanned<PathBuf>>,
    pub(super) url: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) options: BTreeMap<Spanned<String>, toml::Value>,
}

/// How long events are kept, by the class of their target.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retention {
    pub(super) short_days: Option<Spanned<u32>>,
    pub(super) standard_days: Option<Spanned<u32>>,
    pub(super) long_days: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ingest {
    #[serde(default)]
    pub(super) dead_letters_below: BTreeMap<Spanned<String>, u64>,
}

/// The rules, in a file of their own.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) file: Option<Spanned<PathBuf>>,
    pub(super) time_zone: Option<Spanned<String>>,
}

/// What nobody may have too much of: 0 is no limit. The first four are each principal's, unless its own say otherwise.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) sessions_max: Option<u64>,
    pub(super) commands_per_second_max: Option<u64>,
    pub(super) commands_burst_max: Option<Spanned<u64>>,
    pub(super) bytes_per_second_max: Option<u64>,
    pub(super) sessions_per_source_max: Option<u64>,
    pub(super) logins_waiting_per_source_max: Option<u64>,
    pub(super) logins_per_minute_per_source_max: Option<u64>,
    pub(super) failed_logins_per_minute_max: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PrincipalLimits {
    pub(super) sessions_max: Option<u64>,
    pub(super) commands_per_second_max: Option<u64>,
    pub(super) commands_burst_max: Option<Spanned<u64>>,
    pub(super) bytes_per_second_max: Option<u64>,
}

/// The secret store, and how the gate logs in there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vault {
    pub(super) address: Spanned<String>,
    pub(super) namespace: Option<Spanned<String>>,
    pub(super) tls_ca: Option<Spanned<PathBuf>>,
    pub(super) tls_server_name: Option<Spanned<String>>,
    pub(super) tls_cert: Option<Spanned<PathBuf>>,
    pub(super) tls_key: Option<Spanned<SecretRef>>,
    pub(super) token: Option<Spanned<SecretRef>>,
    pub(super) approle: Option<Spanned<AppRole>>,
    pub(super) kubernetes: Option<Spanned<Kubernetes>>,
    pub(super) cert: Option<Spanned<Cert>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppRole {
    pub(super) role_id: String,
    pub(super) secret_id: SecretRef,
    #[serde(default)]
    pub(super) secret_id_is_wrapped: bool,
    pub(super) mount: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kubernetes {
    pub(super) role: String,
    pub(super) token_file: Option<PathBuf>,
    pub(super) mount: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cert {
    pub(super) role: Option<String>,
    pub(super) mount: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Principal {
    pub(super) name: Spanned<String>,
    pub(super) kind: PrincipalKind,
    pub(super) on_behalf_of: Option<String>,
    pub(super) person: Option<String>,
    pub(super) review_key: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) groups: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) targets: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) evidence: Evidence,
    #[serde(default)]
    pub(super) evidence_fingerprint: bool,
    #[serde(default)]
    pub(super) kill: Kill,
    #[serde(default)]
    pub(super) hold: Hold,
    #[serde(default)]
    pub(super) limits: PrincipalLimits,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PrincipalKind {
    Human,
    Agent,
    Service,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Evidence {
    #[default]
    None,
    Own,
    All,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kill {
    #[default]
    None,
    Own,
    All,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Hold {
    #[default]
    None,
    All,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub(super) name: Spanned<String>,
    #[serde(rename = "protocol")]
    pub(super) _protocol: Protocol,
    pub(super) address: Spanned<String>,
    pub(super) database: String,
    pub(super) user: Option<Spanned<String>>,
    pub(super) password: Option<Spanned<Password>>,
    pub(super) credential: Option<Spanned<Credential>>,
    #[serde(default)]
    pub(super) durability: Durability,
    #[serde(default)]
    pub(super) record: Record,
    pub(super) tls: Option<Spanned<Tls>>,
    pub(super) tls_ca: Option<Spanned<PathBuf>>,
    pub(super) tls_server_name: Option<Spanned<String>>,
    pub(super) tls_cert: Option<Spanned<PathBuf>>,
    pub(super) tls_key: Option<Spanned<SecretRef>>,
    pub(super) tls_negotiation: Option<Spanned<TlsNegotiation>>,
    pub(super) channel_binding: Option<Spanned<ChannelBinding>>,
    pub(super) require_auth: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) allow_weak_auth: bool,
    #[serde(default)]
    pub(super) max_protocol_version: ProtocolVersion,
    #[serde(default)]
    pub(super) retention_class: RetentionClass,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Protocol {
    Postgres,
}

/// How much of a target's sessions is recorded.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    #[serde(default)]
    pub(super) responses: Responses,
    pub(super) copy_data_bytes_max: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) beyond: Beyond,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Responses {
    #[default]
    Full,
    MaskedOnly,
    Shape,
    None,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Beyond {
    #[default]
    Refuse,
    Omit,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Durability {
    #[default]
    Exchange,
    Command,
    Relaxed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Tls {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TlsNegotiation {
    Postgres,
    Direct,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) enum ProtocolVersion {
    #[default]
    #[serde(rename = "3.0")]
    V3_0,
    #[serde(rename = "3.2")]
    V3_2,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RetentionClass {
    #[default]
    Standard,
    Short,
    Long,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mask {
    pub(super) name: Spanned<String>,
    pub(super) targets: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) detectors: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) columns: Vec<Spanned<String>>,
    pub(super) action: MaskAction,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MaskAction {
    Redact,
    Token,
    Partial,
}
