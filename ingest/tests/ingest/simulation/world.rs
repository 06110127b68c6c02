//! One run of a seed: what happens next, one thing at a time, by the seed alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use retrace_eventlog::{EventLog, MemoryLog};
use retrace_ingest::{Next, Options};
use retrace_lake::faults::FaultyStore;
use retrace_lake::{Compacted, CompactionOptions, Compactor, Held, Retainer, Retention, Sweeper, Table};
use retrace_proto::Id;
use retrace_proto::log::TopicPartition;

use super::chance::Chance;
use super::counts::Counts;
use super::gate::{Request, Verdict};
use super::producers::{ALL, Producers};
use super::worker::{Ghost, Stop, Worker};
use crate::support::open;

/// Things that happen in one run, before all that is left is ingested.
const EVENTS_MAX: u64 = 70;

/// Requests that a worker makes before something else happens.
const REQUESTS_MAX: u64 = 14;

/// Stops within which one worker without faults must have everything: several times what the slowest seed takes.
const LAST_STOPS_MAX: u32 = 2_000;

/// What was merged is kept for workers that read an older version.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) struct World {
    chance: Chance,
    now_ms: u64,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) store: Arc<dyn ObjectStore>,
    /// A reader's view, which nothing happens to.
    pub(crate) table: Table,
    pub(crate) producers: Producers,
    workers: Vec<Slot>,
    ghosts: Vec<Ghost>,
    pub(crate) counts: Counts,
    /// What retention has removed.
    pub(crate) removed: BTreeSet<(TopicPartition, u64)>,
    pub(crate) trace: Vec<String>,
}

struct Slot {
    worker: Worker,
    wakes_at_ms: u64,
}

fn options() -> Options {
    Options { rows_max: 24, orphan_age_min: Duration::ZERO, ..Options::default() }
}

impl World {
    pub(crate) async fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let log = Arc::new(MemoryLog::with_partitions(2, 1));
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let table = open(&FaultyStore::new(Arc::clone(&store))).await;
        let mut workers = Vec::new();
        for _ in 0..2 {
            let worker = Worker::start(&log, &store, Vec::new(), options()).await;
            workers.push(Slot { worker, wakes_at_ms: 0 });
        }
        let producers = Producers::new(&log, &mut chance);
        let (ghosts, counts, trace) = (Vec::new(), Counts::default(), Vec::new());
        let removed = BTreeSet::new();
        let mut world =
            Self { chance, now_ms: 0, log, store, table, producers, workers, ghosts, counts, removed, trace };
        world.divide();
        world
    }

    pub(crate) async fn run(&mut self) {
        for _ in 0..EVENTS_MAX {
            match self.chance.below(100) {
                0..30 => self.producers.append_some(&mut self.chance, &mut self.counts),
                30..74 => self.drive_some().await,
                74..79 => self.kill_one().await,
                79..84 => self.divide(),
                84..87 => self.pass_time_by_chance(),
                87..90 => self.land_one().await,
                90..94 => self.check_cut().await,
                94..96 => self.compact().await,
                96..98 => self.expire().await,
                _ => self.sweep().await,
            }
        }
    }

    fn pass_time_by_chance(&mut self) {
        let ms = 200 + self.chance.below(20_000);
        self.pass_time(ms);
    }

    fn say(&mut self, what: String) {
        self.trace.push(format!("{} ms: {what}", self.now_ms));
    }

    fn pass_time(&mut self, ms: u64) {
        self.now_ms += ms;
        self.log.set_now(MemoryLog::STARTS_AT_UNIX_US + i64::try_from(self.now_ms * 1000).expect("hours"));
    }

    /// Gives each topic partition to one worker, mostly; for a while both may believe that they have it, or none.
    fn divide(&mut self) {
        let mut shares: [Vec<TopicPartition>; 2] = Default::default();
        for at in ALL {
            let of = match self.chance.below(10) {
                0..4 => [true, false],
                4..8 => [false, true],
                8 => [true, true],
                _ => [false, false],
            };
            for (share, has) in shares.iter_mut().zip(of) {
                share.extend(has.then_some(at));
            }
        }
        self.say(format!("shares {shares:?}"));
        self.counts.add("shares changed");
        for (slot, share) in self.workers.iter().zip(shares) {
            slot.worker.share.send_replace(share);
        }
    }

    async fn drive_some(&mut self) {
        let index = self.chance.index(self.workers.len());
        let wakes_at_ms = self.workers[index].wakes_at_ms;
        if wakes_at_ms > self.now_ms {
            // Mostly others go on meanwhile.
            if self.chance.percent(50) {
                return;
            }
            self.pass_time(wakes_at_ms - self.now_ms);
        }
        for _ in 0..=self.chance.below(REQUESTS_MAX) {
            let verdict = self.verdict(index);
            if self.drive(index, verdict).await {
                return;
            }
        }
    }

    /// Decides how the request ends before which a worker stands, and whether it can reach the store until the next one.
    fn verdict(&mut self, index: usize) -> Verdict {
        let away = self.chance.percent(3);
        let unreadable = self.chance.percent(3);
        let store = &self.workers[index].worker.store;
        store.set_away(away);
        store.fail_reads(unreadable);
        self.counts.add_many("store away", u64::from(away));
        self.counts.add_many("data files unreadable", u64::from(unreadable));
        let Some(request) = self.workers[index].worker.request() else { return Verdict::Pass };
        let verdict = match (self.chance.below(100), request) {
            (0..6, _) => Verdict::Fail,
            (6..12, Request::Put(_)) => Verdict::FailPersisted,
            _ => return Verdict::Pass,
        };
        self.counts.add(&format!("{request:?} {verdict:?}"));
        verdict
    }

    /// Whether the worker sleeps or is stalled now.
    async fn drive(&mut self, index: usize, verdict: Verdict) -> bool {
        let slot = &mut self.workers[index];
        let stop = slot.worker.drive(verdict).await;
        let pause_ms = match &stop {
            Stop::Before(request) => {
                let stalls = self.chance.percent(3);
                if stalls {
                    self.counts.add_named("stalled a minute before", request);
                }
                if stalls { 60_000 } else { 0 }
            }
            Stop::After(Ok(Next::WhenDue)) => u64::try_from(options().age_max.as_millis()).expect("short"),
            Stop::After(Ok(Next::Overtaken)) => {
                self.counts.add("fenced");
                200
            }
            Stop::After(Ok(Next::After(pause))) => u64::try_from(pause.as_millis()).expect("short"),
            Stop::After(Err(error)) => panic!("worker {index} ended: {error:?}"),
        };
        slot.wakes_at_ms = self.now_ms + pause_ms;
        self.say(format!("worker {index} {verdict:?}, then {stop:?}, sleeps {pause_ms} ms"));
        pause_ms > 0
    }

    async fn kill_one(&mut self) {
        let index = self.chance.index(self.workers.len());
        let share = self.workers[index].worker.share.borrow().clone();
        let worker = Worker::start(&self.log, &self.store, share, options()).await;
        let dead = std::mem::replace(&mut self.workers[index], Slot { worker, wakes_at_ms: self.now_ms });
        let stood = dead.worker.request();
        self.say(format!("worker {index} killed before {stood:?}"));
        match stood {
            Some(request) => self.counts.add_named("killed before", &request),
            None => self.counts.add("killed between two attempts"),
        }
        self.ghosts.extend(dead.worker.kill());
    }

    /// What a dead worker asked the store for is done only now.
    async fn land_one(&mut self) {
        if self.ghosts.is_empty() {
            return;
        }
        let ghost = self.ghosts.remove(self.chance.index(self.ghosts.len()));
        self.counts.add(&format!("{:?} done after its worker died", ghost.request));
        self.say(format!("{:?} of a dead worker done", ghost.request));
        ghost.land().await;
    }

    /// Between two requests of a worker, so that a commit which it does not know to be made may find its files merged.
    async fn compact(&mut self) {
        let two =
            CompactionOptions { fan_in: 2, settled_after: Duration::MAX, ..CompactionOptions::default() };
        let compacted = Compactor::new(self.table.clone(), two).step().await.expect("nothing happens to it");
        let Some(Compacted { merged, written, rows, .. }) = compacted else { return };
        self.counts.add_many("files merged", merged as u64);
        self.say(format!("{merged} files of {rows} rows became {written}"));
    }

    /// What the table has whole of streams that have ended expires; a hold is on the others. Between two requests of a
    /// worker, so that a commit which it does not know to be made may find that its files are gone.
    async fn expire(&mut self) {
        let snapshot = self.table.snapshot().await.expect("nothing happens to it");
        let topic_id = |topic| self.log.topic_id(topic);
        let of = |at: &TopicPartition| snapshot.position(topic_id(at.topic), at.partition);
        let young = self.producers.young(of);
        let old = self.producers.of_others(&young, of);
        let expected: Vec<_> = old.difference(&self.removed).copied().collect();
        let held = Held { sessions: young.iter().map(Id::to_string).collect(), ..Held::default() };
        let first_days_kept = [("standard".to_owned(), i32::MAX)].into();
        let retention = Retention { first_days_kept, held };
        let mut retainer = Retainer::new(self.table.clone());
        let found = retainer.find(&snapshot, &retention).await.expect("nothing happens to it");
        let Some(expired) = found else { return assert!(expected.is_empty(), "{expected:?} should go") };
        assert_eq!(expired.rows_removed(), expected.len() as u64, "{expected:?}");
        self.table.expire(&expired, &snapshot, topic_id).await.expect("nothing comes between");
        self.counts.add_many("expired rows removed", expired.rows_removed());
        if expired.rows_kept() > 0 {
            self.counts.add("files written anew without expired rows");
        }
        self.say(format!("{} rows of {} files expired", expired.rows_removed(), expired.files_removed()));
        self.removed.extend(expected);
    }

    async fn sweep(&mut self) {
        self.sweep_after(A_DAY).await;
    }

    async fn sweep_after(&mut self, removed_age_min: Duration) {
        let mut sweeper = Sweeper::new(self.table.clone(), Duration::ZERO, removed_age_min);
        let swept = sweeper.sweep(|topic| self.log.topic_id(topic)).await.expect("nothing happens to it");
        self.counts.add("sweeps");
        self.counts.add_many("orphans swept", swept.deleted as u64);
        self.say(format!("swept {swept:?}"));
    }

    /// One worker that has all and whom nothing happens to brings everything into the table. What dead ones asked for
    /// comes before or after, or never.
    pub(crate) async fn settle(&mut self) {
        self.workers.clear();
        while self.chance.percent(50) && !self.ghosts.is_empty() {
            self.land_one().await;
        }
        let worker = Worker::start(&self.log, &self.store, ALL.to_vec(), options()).await;
        self.workers.push(Slot { worker, wakes_at_ms: 0 });
        for stops in 1.. {
            let sleeps = self.drive(0, Verdict::Pass).await;
            let lag = self.workers[0].worker.lag_records();
            if sleeps && lag == Some(0) {
                break;
            }
            assert!(
                stops < LAST_STOPS_MAX,
                "one worker without faults does not come to the log's end: lag {lag:?}"
            );
        }
        while self.chance.percent(70) && !self.ghosts.is_empty() {
            self.land_one().await;
        }
        self.ghosts.clear();
        if self.chance.percent(50) {
            self.expire().await;
        }
        self.sweep_after(Duration::ZERO).await;
    }
}
