//! A day's load in an hour: whether anything grows that must not, with the curves that show it.
//!
//! Services run as they do in production, clients ask evenly, and everything that may grow is looked at every few seconds.
//! Counts and bytes are asserted; times are told, side by side within one run.

mod bounds;
mod drawing;
mod evidence;
mod files;
mod load;
mod look;
mod measures;
mod plan;
mod questions;
mod report;
mod scale;
mod services;
mod work;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use plan::Plan;

use crate::{Postgres, cache, checkout};
use evidence::assert_evidence;
use load::{Done, Load};
use look::{Watcher, look_on};
use measures::{Looks, heading};
use report::Report;
use services::Services;

/// How long it may take until the table has everything, after the load.
const SETTLE_MAX: Duration = Duration::from_secs(120);

/// Eight commits of one topic partition make a merge due, and a machine that is busy may take its time.
const MERGE_MINUTES_MIN: u64 = 5;

/// Runs it, asserts what must hold, and writes down what was seen. Gives where.
///
/// # Panics
/// If something was lost, came twice, or grew.
#[must_use]
#[allow(clippy::print_stdout, reason = "a program says how far it is")]
pub fn run(plan: &Plan) -> PathBuf {
    let folder = cache("RETRACE_DAY", "day");
    fs::create_dir_all(&folder).expect("the cache is writable");
    println!("day: brokers, a store, a target and services …");
    let postgres = Postgres::start_for_load();
    let services = Services::start(postgres.database());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    println!("day: {} commands in {} minutes …", plan.commands, plan.minutes);
    let mut looks = Looks::during(plan.duration());
    let file = folder.join("day.csv");
    let done = runtime.block_on(Box::pin(watch(plan, &services, &mut looks, &file)));
    // Whatever is found wrong: this is there to be looked at.
    let mut report = Report { plan, looks: &looks, counted: None };
    write(&folder, &report);
    assert_eq!(done.answered, plan.commands, "every command was asked and answered");
    println!("day: counting …");
    let counted = assert_evidence(&services, &done);
    report.counted = Some(counted);
    write(&folder, &report);
    assert!(counted.merged > 0.0 || plan.minutes < MERGE_MINUTES_MIN, "no files were merged");
    let breaches = bounds::breaches(plan, &looks);
    assert!(breaches.is_empty(), "what must not grow did: {breaches:?}; see {}", folder.display());
    services.stop();
    if !plan.is_a_day() {
        return folder;
    }
    let docs = checkout("docs");
    write(&docs, &report);
    docs
}

/// After so many looks it says how far it is.
const SAID_EVERY: usize = 20;

/// Runs the load to its end, and waits until the table has all of it.
#[allow(clippy::print_stdout, reason = "a program says how far it is")]
async fn watch(plan: &Plan, services: &Services<'_>, looks: &mut Looks, csv: &Path) -> Done {
    let mut watcher = Watcher::prepare(services).await;
    let load = Load::start(services, plan);
    let mut csv = File::create(csv).expect("the cache is writable");
    writeln!(csv, "{}", heading()).expect("the cache is writable");
    look_on(plan, &mut watcher, &load, |sample| {
        writeln!(csv, "{}", sample.row()).expect("the cache is writable");
        if looks.all().len().is_multiple_of(SAID_EVERY) {
            println!("day: {} of {} minutes", sample.at.as_secs() / 60, plan.minutes);
        }
        looks.push(sample);
    })
    .await;
    load.assert_fine();
    let done = load.end().await;
    let cut = watcher.end_of_log().await;
    let deadline = Instant::now() + SETTLE_MAX;
    while !watcher.has_all(&cut).await {
        assert!(Instant::now() < deadline, "the table does not have everything within {SETTLE_MAX:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    done
}

/// The document and its picture.
fn write(folder: &Path, report: &Report<'_>) {
    let files = [("day.md", report.markdown()), ("day.svg", drawing::svg(&report.looks.picture()))];
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("the folder is writable");
    }
}
