//! What the end-to-end tests, the demonstration and the benchmark stand on: real processes, driven with deadlines.
//!
//! * [`Postgres`]: a scratch cluster, the target; [`Database`]: one test's own part of it.
//! * [`Kafka`]: a scratch cluster of brokers, the log.
//! * [`S3`]: a scratch S3 server, the store of the lake; [`S3Faults`]: what stands before it and fails on demand.
//! * [`Vault`]: a scratch secret store, and what of it leads to a target.
//! * [`HaProxy`]: a load balancer before proxies, or a way to where a client cannot go itself.
//! * [`Namespace`]: a network of its own, whose link can be cut; [`Clock`]: a clock that can be set.
//! * [`compose`], [`kubernetes`]: what is deployed, to be compared with what runs here; [`deploy_tool`]: what deploys it.
//! * [`Gate`]: a folder made by `retrace init` and the `retrace up` that runs on it.
//! * [`previous_release`]: the `retrace` that was released before this one.
//! * [`client`]: a driver that speaks the extended protocol; [`Wire`]: a client that may say anything.
//! * [`matrix`]: workloads of many clients, compared with and without a gate.
//! * [`engines`]: other engines that read the table, compared with `retrace sql`.
//! * [`bench`]: what is measured, and how it is written down.
//! * [`day`]: a day's load in an hour, and whether anything grows that must not.
//! * [`assert_nothing_lost_nothing_twice`]: counts that come out only then.
//! * [`run`] and [`wait_for`]: a command, and a condition, with an end to the patience.
//!
//! Nothing here outlives the process that uses it, however that process ends: clusters hang on a [`leash`], gates on
//! the kernel's parent-death signal.

use std::path::{Path, PathBuf};

mod postgres;

mod kafka;

mod s3;

mod s3_faults;

mod vault;

mod haproxy;

mod namespace;

mod clock;

mod deployment;

mod gate;

mod previous;

pub mod client;

mod wire;

pub mod leash;

mod run;

mod port;

mod sample;

mod counts;

pub mod matrix;

pub mod engines;

pub mod bench;

pub mod day;

pub use clock::Clock;
pub use counts::{RECORDED_INSERTS, assert_nothing_lost_nothing_twice, inserts_on_record};
pub use deployment::{compose, deploy_tool, kubernetes, manifests};
pub use gate::{
    Gate, Health, PASSWORD_VARIABLE, Process, Surroundings, binary, files_under, service_arguments,
};
pub use haproxy::{Backend, HaProxy, haproxy_arguments};
pub use kafka::{KAFKA_PASSWORD, KAFKA_USER, Kafka};
pub use namespace::{Link, Namespace};
pub use postgres::{Database, Postgres, TARGET_PASSWORD, TARGET_USER};
pub use previous::previous_release;
pub use run::{Outcome, run, wait_for};
pub use s3::{S3, S3_ACCESS_KEY, S3_SECRET_KEY, s3_arguments};
pub use s3_faults::{S3Fault, S3Faults, Struck};
pub use sample::{customers, payment_card};
pub use vault::{AppRole, Vault};
pub use wire::{Message, Wire, cancel_request, startup};

/// A folder that a script of the project installed something into: the one that `variable` names, else the one where
/// the Makefile keeps it.
pub(crate) fn cache(variable: &str, name: &str) -> PathBuf {
    let home = || Path::new(&std::env::var_os("HOME").expect("HOME is set")).join(".cache");
    let caches = || std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    std::env::var_os(variable).map_or_else(|| caches().join("retrace").join(name), PathBuf::from)
}

/// A file or folder of the checkout that this runs in, by its path from the root.
pub(crate) fn checkout(path: &str) -> PathBuf {
    let here = std::env::current_dir().expect("a folder");
    let root = here.ancestors().find(|folder| folder.join("tests/matrix").is_dir());
    root.expect("the checkout is around the current folder").join(path)
}
