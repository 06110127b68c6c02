use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use retrace_access::{EvidenceRight, HoldRight, KillRight, Principal, PrincipalLimits};
use retrace_evidence::PublicKey;
use retrace_policy::catalogue::InvalidColumnName;
use retrace_policy::detect::Detector;
use retrace_proto::log::TopicPartition;
use retrace_proto::wire;
use retrace_proxy::CATALOGUE_PRINCIPAL;
use retrace_proxy_core::postgres::Beyond;
use toml::Spanned;

use super::people::people;
use super::place::{ConfigError, Source};
use super::{
    COPY_DATA_BYTES_MAX_DEFAULT, Config, DOOR_LISTEN_EXAMPLE, DRAIN_GRACE_MS_DEFAULT, DRAIN_MS_MAX,
    DRAIN_WAIT_MS_DEFAULT, HEALTH_LISTEN_EXAMPLE, Mask, PROXY_LISTEN_DEFAULT, QUERY_LISTEN_DEFAULT, Record,
    Target, credential, fixed, form, lake, limits, link, log, policy, policy_version, retention, vault,
};
use crate::services::Drain;

/// Longest name, in bytes: PostgreSQL clients cut longer ones.
const NAME_BYTES_MAX: usize = 63;

/// Checks what the form cannot say, and gives the configuration.
pub(super) fn build(
    form: form::Form,
    source: &Source<'_>,
    file: &Path,
    dir: PathBuf,
) -> Result<Config, ConfigError> {
    let proxy_listen = listen(form.proxy.postgres.listen.as_ref(), PROXY_LISTEN_DEFAULT, source)?;
    let query_listen = listen(form.query.grpc.listen.as_ref(), QUERY_LISTEN_DEFAULT, source)?;
    let door = form.query.postgres.listen.as_ref();
    let door_listen = door.map(|given| listen(Some(given), DOOR_LISTEN_EXAMPLE, source)).transpose()?;
    let health = form.health.listen.as_ref();
    let health_listen = health.map(|given| listen(Some(given), HEALTH_LISTEN_EXAMPLE, source)).transpose()?;
    apart(
        &[
            (form.proxy.postgres.listen.as_ref(), Some(proxy_listen), "the gate"),
            (form.query.grpc.listen.as_ref(), Some(query_listen), "the query service"),
            (door, door_listen, "the evidence's PostgreSQL door"),
            (health, health_listen, "the health listener"),
        ],
        source,
    )?;
    unique(form.target.iter().map(|target| &target.as_ref().name), "target", source)?;
    unique(form.principal.iter().map(|principal| &principal.name), "principal", source)?;
    unique(form.mask.iter().map(|mask| &mask.name), "mask", source)?;
    let names: Vec<String> = form.target.iter().map(|target| target.as_ref().name.as_ref().clone()).collect();
    let of_all = limits::of_all(&form.limits, source)?;
    let people = people(&form.principal, source)?;
    let principals = form.principal.into_iter().map(|it| principal(it, (&names, &people), of_all, source));
    let masks = form.mask.into_iter().map(|it| mask(it, &names, source));
    let vault = form.vault.map(|it| vault::vault(it, &dir, source)).transpose()?;
    let targets = form.target.into_iter().map(|it| target(it, &dir, vault.is_some(), source));
    let principals: Vec<_> = principals.collect::<Result<_, _>>()?;
    let targets: Vec<_> = targets.collect::<Result<_, _>>()?;
    let rules = policy::read(&form.policy, &dir, source)?;
    Ok(Config {
        policy: policy::policy(&rules, &principals, &targets)?,
        policy_version: policy_version(source.text, &rules.text),
        fixed: fixed(source.text),
        proxy_listen,
        query_listen,
        door_listen,
        health_listen,
        drain: drain(&form.drain, source)?,
        log: log::log(form.log, &dir, source)?,
        lake: lake::lake(form.lake, &dir, source)?,
        retention: retention::retention(&form.retention, source)?,
        dead_letters_below: dead_letters_below(form.ingest, source)?,
        source_limits: limits::of_sources(&form.limits),
        principals,
        masks: masks.collect::<Result<_, _>>()?,
        targets,
        vault,
        file: file.to_owned(),
        dir,
    })
}

fn listen(
    given: Option<&Spanned<String>>,
    default: &str,
    source: &Source<'_>,
) -> Result<SocketAddr, ConfigError> {
    let Some(given) = given else { return Ok(default.parse().expect("the default is an address")) };
    given.as_ref().parse().map_err(|_| {
        let problem = format!(
            "`{}` is not an address to listen at; allowed: IP:PORT such as {default} or [::1]:7432",
            given.as_ref()
        );
        source.error(given.span(), problem)
    })
}

fn drain(it: &form::Drain, source: &Source<'_>) -> Result<Drain, ConfigError> {
    let ms = |given: Option<&Spanned<u64>>, default: u64| match given {
        Some(ms) if *ms.as_ref() > DRAIN_MS_MAX => {
            Err(source.error(ms.span(), format!("is in milliseconds, {DRAIN_MS_MAX} at most")))
        }
        given => Ok(Duration::from_millis(given.map_or(default, |ms| *ms.as_ref()))),
    };
    Ok(Drain {
        grace: ms(it.grace_ms.as_ref(), DRAIN_GRACE_MS_DEFAULT)?,
        wait_max: ms(it.wait_ms_max.as_ref(), DRAIN_WAIT_MS_DEFAULT)?,
    })
}

/// Offsets by topic partition, each named as an error of ingest's names it.
fn dead_letters_below(
    it: form::Ingest,
    source: &Source<'_>,
) -> Result<BTreeMap<TopicPartition, u64>, ConfigError> {
    let place = |(name, below): (Spanned<String>, u64)| match name.as_ref().parse::<TopicPartition>() {
        Ok(at) => Ok((at, below)),
        Err(_) => {
            let problem = format!(
                "`{}` is no topic partition; allowed: retrace.events[N] and retrace.control[N], whatever topic_prefix is",
                name.as_ref()
            );
            Err(source.error(name.span(), problem))
        }
    };
    it.dead_letters_below.into_iter().map(place).collect()
}

/// What the file says of an address, the address, and who listens there.
type Listens<'a> = (Option<&'a Spanned<String>>, Option<SocketAddr>, &'a str);

/// Checks that no two listen at one address. A clash is shown at the later one, if the file gave its address.
fn apart(listeners: &[Listens<'_>], source: &Source<'_>) -> Result<(), ConfigError> {
    for (index, (given, address, _)) in listeners.iter().enumerate() {
        let taken = |(_, other, _): &&(_, Option<SocketAddr>, _)| address.is_some() && other == address;
        if let Some((other, _, who)) = listeners[..index].iter().find(taken)
            && let Some(at) = given.or(*other)
            && address.is_some_and(|address| address.port() != 0)
        {
            let problem = format!("{who} listens at this address already: take another port");
            return Err(source.error(at.span(), problem));
        }
    }
    Ok(())
}

/// Checks names by themselves and against each other.
fn unique<'a>(
    names: impl Iterator<Item = &'a Spanned<String>>,
    what: &str,
    source: &Source<'_>,
) -> Result<(), ConfigError> {
    let mut seen = HashSet::new();
    for name in names {
        let text = name.as_ref().as_str();
        let problem = if text.is_empty() || text.len() > NAME_BYTES_MAX {
            format!("a name has 1 to {NAME_BYTES_MAX} bytes")
        } else if text.chars().any(char::is_control) {
            "a name has no control characters".to_owned()
        } else if what == "target" && !text.chars().all(is_of_target_name) {
            "the name of a target has only letters, digits, `_`, `-` and `.`, since clients give it as a database"
                .to_owned()
        } else if what == "principal" && text == CATALOGUE_PRINCIPAL {
            format!("`{CATALOGUE_PRINCIPAL}` is the gateway's own name: choose another")
        } else if !seen.insert(text) {
            format!("there is a {what} `{text}` before this one: names are unique")
        } else {
            continue;
        };
        return Err(source.error(name.span(), problem));
    }
    Ok(())
}

fn is_of_target_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn principal(
    it: form::Principal,
    (targets, people): (&[String], &HashMap<String, String>),
    of_all: PrincipalLimits,
    source: &Source<'_>,
) -> Result<Principal, ConfigError> {
    Ok(Principal {
        person: people[it.name.as_ref()].clone(),
        review_key: it.review_key.map(|key| review_key(key, source)).transpose()?,
        groups: it.groups.into_iter().map(|name| group(name, source)).collect::<Result<_, _>>()?,
        limits: limits::of_one(&it.limits, of_all, source)?,
        targets: known_targets(it.targets, targets, source)?,
        name: it.name.into_inner(),
        kind: match it.kind {
            form::PrincipalKind::Human => wire::PrincipalKind::Human,
            form::PrincipalKind::Agent => wire::PrincipalKind::Agent,
            form::PrincipalKind::Service => wire::PrincipalKind::Service,
        },
        on_behalf_of: it.on_behalf_of,
        evidence: match it.evidence {
            form::Evidence::None => EvidenceRight::None,
            form::Evidence::Own => EvidenceRight::Own,
            form::Evidence::All => EvidenceRight::All,
        },
        evidence_fingerprint: it.evidence_fingerprint,
        kill: match it.kill {
            form::Kill::None => KillRight::None,
            form::Kill::Own => KillRight::Own,
            form::Kill::All => KillRight::All,
        },
        hold: match it.hold {
            form::Hold::None => HoldRight::None,
            form::Hold::All => HoldRight::All,
        },
    })
}

fn review_key(given: Spanned<String>, source: &Source<'_>) -> Result<String, ConfigError> {
    match given.as_ref().parse::<PublicKey>() {
        Ok(key) => Ok(key.to_string()),
        Err(error) => Err(source.error(given.span(), error.to_string())),
    }
}

/// Rules list reviewers by their groups, with commas between.
fn group(name: Spanned<String>, source: &Source<'_>) -> Result<String, ConfigError> {
    let text = name.as_ref();
    let is_name = !text.is_empty() && text.len() <= NAME_BYTES_MAX;
    if !is_name || text.trim() != text || text.chars().any(|c| c.is_control() || c == ',') {
        let problem = format!(
            "`{text}` is no name of a group; allowed: 1 to {NAME_BYTES_MAX} bytes, no commas, no blanks around it"
        );
        return Err(source.error(name.span(), problem));
    }
    Ok(name.into_inner())
}

fn mask(it: form::Mask, targets: &[String], source: &Source<'_>) -> Result<Mask, ConfigError> {
    let allowed = || Detector::ALL.map(Detector::name).join(", ");
    if it.detectors.is_empty() && it.columns.is_empty() {
        let problem = format!(
            "a mask without `detectors` and `columns` hides nothing; detectors are {}; a column is \
             \"schema.table.column\"",
            allowed()
        );
        return Err(source.error(it.name.span(), problem));
    }
    let column = |name: Spanned<String>| {
        name.as_ref().parse().map_err(|error: InvalidColumnName| source.error(name.span(), error.to_string()))
    };
    let detector = |name: Spanned<String>| {
        name.as_ref().parse().map_err(|_| {
            let problem = format!("unknown detector `{}`; allowed: {}", name.as_ref(), allowed());
            source.error(name.span(), problem)
        })
    };
    Ok(Mask {
        targets: known_targets(it.targets, targets, source)?,
        detectors: it.detectors.into_iter().map(detector).collect::<Result<_, _>>()?,
        columns: it.columns.into_iter().map(column).collect::<Result<_, _>>()?,
        name: it.name.into_inner(),
        action: match it.action {
            form::MaskAction::Redact => wire::MaskAction::Redact,
            form::MaskAction::Token => wire::MaskAction::Token,
            form::MaskAction::Partial => wire::MaskAction::Partial,
        },
    })
}

fn known_targets(
    named: Vec<Spanned<String>>,
    targets: &[String],
    source: &Source<'_>,
) -> Result<Vec<String>, ConfigError> {
    let known = |name: Spanned<String>| {
        if name.as_ref() == "*" || targets.contains(name.as_ref()) {
            return Ok(name.into_inner());
        }
        let problem = format!("no [[target]] is named `{}`; allowed: *{}", name.as_ref(), listed(targets));
        Err(source.error(name.span(), problem))
    };
    named.into_iter().map(known).collect()
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!(", {name}")).collect()
}

fn target(
    it: Spanned<form::Target>,
    dir: &Path,
    has_vault: bool,
    source: &Source<'_>,
) -> Result<Target, ConfigError> {
    let at = it.span();
    let it = it.into_inner();
    let credential = credential::credential(&it, at, has_vault, source)?;
    let (host, port) = host_and_port(&it.address, source)?;
    let (tls, auth) = link::link(&it, is_loopback(&host), dir, source)?;
    Ok(Target {
        name: it.name.into_inner(),
        host,
        port,
        database: it.database,
        credential,
        durability: match it.durability {
            form::Durability::Exchange => wire::Durability::Exchange,
            form::Durability::Command => wire::Durability::Command,
            form::Durability::Relaxed => wire::Durability::Relaxed,
        },
        record: record(&it.record, source)?,
        tls,
        auth,
        protocol_minor_max: match it.max_protocol_version {
            form::ProtocolVersion::V3_0 => 0,
            form::ProtocolVersion::V3_2 => 2,
        },
        retention_class: match it.retention_class {
            form::RetentionClass::Standard => wire::RetentionClass::Standard,
            form::RetentionClass::Short => wire::RetentionClass::Short,
            form::RetentionClass::Long => wire::RetentionClass::Long,
        },
        labels: it.labels,
    })
}

fn record(it: &form::Record, source: &Source<'_>) -> Result<Record, ConfigError> {
    let bytes_max = it.copy_data_bytes_max.as_ref();
    if let Some(bytes_max) = bytes_max.filter(|bytes_max| *bytes_max.as_ref() == 0) {
        return Err(source.error(bytes_max.span(), "must be at least 1 byte"));
    }
    Ok(Record {
        responses: match it.responses {
            form::Responses::Full => wire::RecordResponses::Full,
            form::Responses::MaskedOnly => wire::RecordResponses::MaskedOnly,
            form::Responses::Shape => wire::RecordResponses::Shape,
            form::Responses::None => wire::RecordResponses::None,
        },
        copy_data_bytes_max: bytes_max.map_or(COPY_DATA_BYTES_MAX_DEFAULT, |bytes_max| *bytes_max.as_ref()),
        beyond: match it.beyond {
            form::Beyond::Refuse => Beyond::Refuse,
            form::Beyond::Omit => Beyond::Omit,
        },
    })
}

/// `host:port`, `1.2.3.4:port` or `[::1]:port`.
fn host_and_port(address: &Spanned<String>, source: &Source<'_>) -> Result<(String, u16), ConfigError> {
    let split = address.as_ref().rsplit_once(':').and_then(|(host, port)| {
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(host) => host.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
            None => host.to_owned(),
        };
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let is_host = !host.is_empty() && (bracketed.is_some() || host.chars().all(named));
        let port = port.parse::<u16>().ok().filter(|&port| port > 0)?;
        is_host.then_some((host, port))
    });
    split.ok_or_else(|| {
        let problem = format!(
            "`{}` is not the address of a target; allowed: HOST:PORT such as db.example:5432 or [::1]:5432",
            address.as_ref()
        );
        source.error(address.span(), problem)
    })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
