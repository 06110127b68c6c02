//! Who may depend on whom.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{assert_none, cargo, root};

/// The layers: a crate's folder, and the crates of ours it may use. `cli` and `tests` may use all.
const LAYERS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("policy", &["proto"]),
    ("evidence", &["proto"]),
    ("access", &["proto"]),
    ("vault", &["access"]),
    ("kafka-admin", &[]),
    ("eventlog", &["proto", "kafka-admin"]),
    ("proxy-core", &["proto", "policy", "evidence"]),
    ("proxy", &["proxy-core", "access", "eventlog", "policy", "evidence", "proto"]),
    ("lake", &["proto"]),
    ("ingest", &["eventlog", "lake", "evidence", "proto"]),
    ("query", &["lake", "eventlog", "policy", "access", "evidence", "proto"]),
    ("replay", &["query", "policy", "evidence", "proto"]),
    ("console", &["replay", "query", "access", "policy", "eventlog", "proto"]),
];

/// Crates that may use everything and that nothing may use.
const TOPS: &[&str] = &["cli", "tests"];

/// Dependencies that only the named crates may name in their Cargo.toml, tests included.
const RESERVED: &[(&str, &[&str])] = &[
    ("deltalake", &["lake"]),
    ("parquet", &["lake"]),
    ("redb", &["eventlog"]),
    ("rdkafka", &["eventlog", "kafka-admin", "tests"]),
    ("rdkafka-sys", &["kafka-admin"]),
    ("datafusion", &["query"]),
    ("reqwest", &["vault"]),
    ("anyhow", &["cli", "tests"]),
];

/// Crates that compute and nothing else.
const PURE: &[&str] = &["retrace-proto", "retrace-policy", "retrace-evidence", "retrace-proxy-core"];

/// What a pure crate must not reach, however indirectly: runtimes, sockets, clocks, random numbers, the system.
const IMPURE: &[&str] = &[
    "async-io",
    "async-std",
    "chrono",
    "fastrand",
    "getrandom",
    "hyper",
    "mio",
    "object_store",
    "quanta",
    "rand",
    "rand_core",
    "reqwest",
    "rustix",
    "rustls",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "tonic",
    "tracing",
    "walkdir",
];

/// What may be reached all the same, and through whom: Cedar reckons with dates by chrono, and asks no clock for them.
const REACHED: &[(&str, &str)] = &[("chrono", "cedar-policy-core")];

struct Member {
    name: String,
    dependencies: Vec<(String, Option<String>)>,
}

fn members() -> Vec<Member> {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--no-deps", "--locked"]))
            .expect("cargo metadata is JSON");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| Member {
            name: text(&package["name"]).expect("name"),
            dependencies: package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .map(|dependency| (text(&dependency["name"]).expect("name"), text(&dependency["kind"])))
                .collect(),
        })
        .collect()
}

fn short(name: &str) -> &str {
    name.strip_prefix("retrace-").unwrap_or(name)
}

#[test]
fn crates_depend_only_on_layers_below() {
    let layers: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut breaches = Vec::new();
    let members = members();
    assert!(members.len() >= 14, "cargo metadata names only {} crates of ours", members.len());
    for member in &members {
        let from = short(&member.name);
        let of_ours = member
            .dependencies
            .iter()
            .filter(|(name, kind)| name.starts_with("retrace-") && kind.as_deref() != Some("dev"));
        for (name, _) in of_ours {
            let to = short(name);
            let allowed = if TOPS.contains(&from) {
                to != "tests"
            } else {
                layers.get(from).is_some_and(|may_use| may_use.contains(&to))
            };
            if !allowed {
                breaches.push(format!("{from} must not use {to}"));
            }
        }
        if !TOPS.contains(&from) && !layers.contains_key(from) {
            breaches.push(format!("{from} is not in the table of layers"));
        }
    }
    assert_none("the layers", &breaches);
}

#[test]
fn reserved_dependencies_are_named_by_their_owner_alone() {
    let mut breaches = Vec::new();
    for member in members() {
        for (dependency, owners) in RESERVED {
            let names = member.dependencies.iter().any(|(name, _)| name == dependency);
            if names && !owners.contains(&short(&member.name)) {
                breaches.push(format!("{} names {dependency}; only {owners:?} may", member.name));
            }
        }
    }
    assert_none("dependencies kept to one crate", &breaches);
}

#[test]
fn pure_crates_reach_no_clock_no_randomness_and_no_io() {
    let mut breaches = Vec::new();
    for pure in PURE {
        let tree = cargo(&[
            "tree",
            "--locked",
            "-p",
            pure,
            "-e",
            "normal,no-proc-macro",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ]);
        let names: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(names.contains(pure), "cargo tree answered for another crate:\n{tree}");
        let through =
            |name: &str| REACHED.iter().find(|(reached, _)| *reached == name).map(|(_, through)| *through);
        for name in IMPURE.iter().filter(|name| names.contains(name)) {
            let users = users_of(pure, name);
            if through(name).is_none_or(|through| users.iter().any(|user| user != through)) {
                breaches.push(format!("{pure} reaches {name} through {users:?}"));
            }
        }
    }
    assert_none("purity of proto, policy, evidence and proxy/core", &breaches);
}

/// Who of the crates that `root` is built of uses `name` itself.
fn users_of(root: &str, name: &str) -> Vec<String> {
    let edges = "normal,no-proc-macro";
    let tree = cargo(&[
        "tree", "--locked", "-p", root, "-e", edges, "-i", name, "--depth", "1", "--prefix", "none",
        "--format", "{p}",
    ]);
    tree.lines().skip(1).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn pure_crates_share_one_clippy_configuration_that_repeats_the_ban_on_vouching() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("clippy.toml is there");
    let pure = read("proto/clippy.toml");
    for path in ["policy/clippy.toml", "evidence/clippy.toml", "proxy/core/clippy.toml"] {
        assert_eq!(read(path), pure, "{path} differs from proto/clippy.toml");
    }
    let ban = "retrace_proto::Masked::by_masking";
    assert!(pure.contains(ban) && read("clippy.toml").contains(ban), "{ban} is not banned everywhere");
}
