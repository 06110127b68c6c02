//! One look at everything that may grow.

use std::path::PathBuf;
use std::time::Duration;

use retrace_lake::{Location, Snapshot, Table};
use retrace_query::Cut;

use super::Plan;
use super::files::{behind, live};
use super::load::Load;
use super::measures::{
    BEHIND, BYTES, CPU, FILES, FILES_OF_A_KIND, LAG, LATE, LOG_FILES, OBJECTS, PEAKS, PROCESSES, RATE, Sample,
};
use super::questions::Questions;
use super::services::Services;
use crate::bench::process::{cpu_us_of_all, peak_kib, resident_kib};
use crate::files_under;

/// With the first look, and so many looks later again, comes the question that reads everything.
const ALL_EVERY: u64 = 20;

/// How much longer than planned the load may take.
const LATE_MAX: Duration = Duration::from_secs(600);

const LAG_RECORDS: &str = "retrace_ingest_lag_records";

const MIB: f64 = 1024.0 * 1024.0;

/// Who looks.
pub(super) struct Watcher<'a> {
    services: &'a Services<'a>,
    table: Table,
    questions: Questions,
    before: Before,
}

/// What it saw when it looked last.
#[derive(Debug, Default)]
struct Before {
    at: Duration,
    answered: u64,
    /// Microseconds of CPU time that processes had used, in the order of [`CPU`].
    cpu_us: [f64; CPU.len()],
}

impl<'a> Watcher<'a> {
    pub(super) async fn prepare(services: &'a Services<'a>) -> Self {
        let options = services.s3.options().map(|(name, value)| (name.to_owned(), value));
        let location = Location { url: services.gate.table_url(), options: options.into() };
        // It is there. That the store is tried is all that is written.
        let table = Table::open_or_create(&location).await.expect("the services have opened it");
        let questions = Questions::prepare(services).await;
        Self { services, table, questions, before: Before::default() }
    }

    /// Looks, for the n-th time from 0 on.
    pub(super) async fn look(&mut self, load: &Load, number: u64) -> Sample {
        let mut sample = Sample::at(load.at());
        self.note_rates(&mut sample, load);
        for (index, pid) in self.services.pids().into_iter().enumerate() {
            sample.set(PROCESSES[index], resident_kib(pid) / 1024.0);
            sample.set(PEAKS[index], peak_kib(pid) / 1024.0);
        }
        sample.set(LAG, self.services.ingests_say(LAG_RECORDS));
        self.note_bucket(&mut sample);
        let cut = self.questions.ask(&mut sample, number).await;
        if number.is_multiple_of(ALL_EVERY) {
            self.questions.ask_all(&mut sample).await;
        }
        self.note_table(&mut sample, &cut).await;
        sample
    }

    /// What there was of it in each second since the look before.
    fn note_rates(&mut self, sample: &mut Sample, load: &Load) {
        let store = self.services.s3.pid();
        let pids = self.services.pids().into_iter().chain([store]);
        let mut now = Before { at: sample.at, answered: load.answered(), ..Before::default() };
        now.cpu_us.iter_mut().zip(pids).for_each(|(us, pid)| *us = cpu_us_of_all(pid));
        let before = std::mem::replace(&mut self.before, now);
        let seconds = (sample.at - before.at).as_secs_f64();
        sample.set(LATE, load.late().as_secs_f64() * 1e3);
        // The first look would count what came before the load.
        if before.at.is_zero() {
            return;
        }
        sample.set(RATE, count(self.before.answered - before.answered) / seconds);
        for (index, name) in CPU.into_iter().enumerate() {
            let us = self.before.cpu_us[index] - before.cpu_us[index];
            sample.set(name, us / 1e4 / seconds);
        }
    }

    /// The server keeps each object as a file.
    fn note_bucket(&self, sample: &mut Sample) {
        let objects = files_under(&self.services.s3.objects(&self.services.gate.table_url()));
        let of_log = |path: &&PathBuf| path.components().any(|part| part.as_os_str() == "_delta_log");
        sample.set(LOG_FILES, count(objects.iter().filter(of_log).count() as u64));
        sample.set(OBJECTS, count(objects.len() as u64));
    }

    async fn note_table(&self, sample: &mut Sample, cut: &Cut) {
        let snapshot = self.snapshot().await;
        let live = live(snapshot.files());
        sample.set(FILES, count(live.files as u64));
        sample.set(FILES_OF_A_KIND, count(live.small_files as u64));
        sample.set(BYTES, count(live.bytes) / MIB);
        sample.set(BEHIND, count(behind(cut, snapshot.files())));
    }

    /// Where the log ends now.
    pub(super) async fn end_of_log(&self) -> Cut {
        self.questions.cut().await
    }

    /// Whether the table has everything below a cut, and no ingest says that it lags.
    pub(super) async fn has_all(&self, cut: &Cut) -> bool {
        let snapshot = self.snapshot().await;
        behind(cut, snapshot.files()) == 0 && self.services.ingests_say(LAG_RECORDS) < 1.0
    }

    async fn snapshot(&self) -> Snapshot {
        self.table.snapshot().await.expect("the table is readable")
    }
}

/// Looks until the load is done. Looks are due as commands are, but for those that another one took the time of.
pub(super) async fn look_on(
    plan: &Plan,
    watcher: &mut Watcher<'_>,
    load: &Load,
    mut each: impl FnMut(Sample),
) {
    // A load that cannot be kept up with has an end as well.
    let patience = plan.duration() + LATE_MAX;
    let mut number = 0;
    for tick in 1.. {
        let due = plan.look_every * tick;
        if load.at() > due {
            continue;
        }
        tokio::time::sleep(due.saturating_sub(load.at())).await;
        load.assert_fine();
        if load.is_over() {
            return;
        }
        assert!(load.at() < patience, "the load has not come to its end: {} commands", load.answered());
        each(watcher.look(load, number).await);
        number += 1;
    }
}

fn count(number: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "it is drawn")]
    let number = number as f64;
    number
}
