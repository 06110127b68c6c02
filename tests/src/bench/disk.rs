//! The disk, which the log's fsync waits for: what was written before a measurement must not be paid for in it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Probes whose median says how fast the disk is.
const PROBES: usize = 9;
/// How many times as slow as at first still counts as calm.
const CALM_FACTOR: u32 = 3;
/// How long a disk is given to become calm.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How long between two looks.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// The disk under a folder, and how fast it was before anything was measured.
#[derive(Debug)]
pub struct Disk {
    file: PathBuf,
    calm: Duration,
}

impl Disk {
    /// Looks at the disk under `folder` while it is calm.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        let file = folder.join("fsync-probe");
        let calm = fsync_time(&file);
        Self { file, calm }
    }

    /// Waits until what was written before is on the disk and an fsync takes about as long as at first; at most
    /// half a minute.
    pub fn settle(&self) {
        let started = Instant::now();
        while fsync_time(&self.file) > self.calm * CALM_FACTOR && started.elapsed() < WAIT_MAX {
            thread::sleep(LOOK_PERIOD);
        }
    }
}

/// The median time of writing a little and waiting for the disk.
fn fsync_time(file: &Path) -> Duration {
    let mut file = File::create(file).expect("the folder is writable");
    let mut times: Vec<_> = (0..PROBES)
        .map(|_| {
            let started = Instant::now();
            file.write_all(&[0; 4096]).expect("the disk has room");
            file.sync_all().expect("the disk takes it");
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[PROBES / 2]
}
