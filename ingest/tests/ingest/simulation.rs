//! Many runs of two workers over a log and a store that fail, each decided by its seed alone.
//!
//! One thing happens at a time: a producer appends, a worker goes on from one request to the next, dies, loses its
//! share, or the store does late what a dead one asked for. Time is a number that the simulation moves. What is tested is
//! [`Ingest::attempt`](retrace_ingest::Ingest::attempt), which is all of [`Ingest::run`](retrace_ingest::Ingest::run) but
//! the waiting, over the real table.
//!
//! `RETRACE_SEED=N` runs that seed alone and shows what happens. `RETRACE_SOAK=1` runs [`SOAK_SEEDS`] seeds.

use std::time::Instant;

use counts::Counts;
use world::World;

mod chance;
mod checks;
mod counts;
pub(crate) mod gate;
mod producers;
mod worker;
mod world;

/// Seeds in every test run.
const TEST_SEEDS: u64 = 100;

/// Seeds of a soak.
const SOAK_SEEDS: u64 = 1000;

/// Seeds that are run a second time.
const TWICE_SEEDS: u64 = 3;

/// Every fault and turn that the seeds together must have met.
const MUST_STRIKE: [&str; 27] = [
    "append Refused",
    "append LostAnswer",
    "append Unknown",
    "append Hung",
    "record again",
    "conflicting record",
    "Offsets Fail",
    "Read Fail",
    "Truncate Fail",
    "Put(DataFile) Fail",
    "Put(DataFile) FailPersisted",
    "Put(Commit) Fail",
    "Put(Commit) FailPersisted",
    "store away",
    "data files unreadable",
    "killed before Read",
    "killed before Put(DataFile)",
    "killed before Put(Commit)",
    "killed before Truncate",
    "killed between two attempts",
    "Put(Commit) done after its worker died",
    "stalled a minute before Put(Commit)",
    "fenced",
    "orphans swept",
    "files merged",
    "expired rows removed",
    "files written anew without expired rows",
];

/// Names the seed when a run panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {} failed: run it again with RETRACE_SEED={}", self.0, self.0);
        }
    }
}

async fn run(seed: u64) -> (Counts, Vec<String>) {
    let _named = Named(seed);
    let mut world = World::new(seed).await;
    world.run().await;
    world.settle().await;
    world.check_all().await;
    (world.counts, world.trace)
}

fn seeds() -> std::ops::RangeInclusive<u64> {
    let named =
        std::env::var("RETRACE_SEED").ok().map(|seed| seed.parse().expect("RETRACE_SEED is a number"));
    match (named, std::env::var_os("RETRACE_SOAK")) {
        (Some(seed), _) => seed..=seed,
        (None, Some(_)) => 1..=SOAK_SEEDS,
        (None, None) => 1..=TEST_SEEDS,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whatever_fails_every_record_is_in_the_table_once() {
    let (began, seeds) = (Instant::now(), seeds());
    let mut counts = Counts::default();
    for seed in seeds.clone() {
        let (of_seed, trace) = run(seed).await;
        counts.add_all(of_seed);
        if seeds.start() == seeds.end() {
            println!("{}", trace.join("\n"));
        }
    }
    println!("seeds {seeds:?} in {:?}\n{counts}", began.elapsed());
    if seeds.start() != seeds.end() {
        let idle: Vec<_> = MUST_STRIKE.into_iter().filter(|what| counts.of(what) == 0).collect();
        assert!(idle.is_empty(), "never happened: {idle:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_seed_says_the_same_twice() {
    for seed in 1..=TWICE_SEEDS {
        let (one, other) = (run(seed).await, run(seed).await);
        let differs = one.1.iter().zip(&other.1).find(|(one, other)| one != other);
        assert_eq!((differs, &one.0, one.1.len()), (None, &other.0, other.1.len()), "seed {seed}");
    }
}
