//! A clock that steps: what tells processes the time, set by a file.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::gate::Surroundings;
use crate::run::run;

/// Where Debian has the library that answers in the place of the system's clock.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// How long the compiler may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What corrects timed waits while the clock is behind.
const WAITS: &str = include_str!("clock/waits.c");

/// The clock of the processes that run in its surroundings. How long things take is not changed by it: only what time of
/// day it is.
///
/// What waits until a time of day on a condition of C11, as librdkafka does, asks this clock for the time and waits by the
/// system's. So while this one is ahead such waits last until somebody ends them: more than a clock that steps does to them,
/// which prolongs only the waits that it finds. While it is behind they would end at once, and [`WAITS`] has them last as
/// long as is meant.
#[derive(Debug)]
pub struct Clock {
    folder: tempfile::TempDir,
}

impl Clock {
    /// A clock that is right.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("retrace-clock-").tempdir().expect("a temporary folder");
        let clock = Self { folder };
        clock.step_to(0);
        clock.compile_waits();
        clock
    }

    fn compile_waits(&self) {
        let source = self.folder.path().join("waits.c");
        fs::write(&source, WAITS).expect("the folder is writable");
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(self.waits()).arg(source);
        let _ = run(cc, b"", PATIENCE).expect_ok();
    }

    fn waits(&self) -> PathBuf {
        self.folder.path().join("waits.so")
    }

    /// Sets it so many seconds ahead of the right time, or behind. Who asks for the time knows a second later.
    pub fn step_to(&self, seconds_ahead: i64) {
        // Put in its place whole, so that no process reads a half of it.
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{seconds_ahead:+}\n")).expect("the folder is writable");
        fs::rename(new, self.file()).expect("the folder is writable");
    }

    /// What runs a service by it.
    #[must_use]
    pub fn surroundings(&self) -> Surroundings {
        let library = LIBRARIES.iter().find(|library| fs::exists(library).unwrap_or(false));
        let library = library.unwrap_or_else(|| panic!("{} is not there; run `make test`", LIBRARIES[0]));
        let environment = [
            ("LD_PRELOAD", format!("{}:{library}", self.waits().display())),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ];
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Surroundings { environment, ..Surroundings::default() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("time")
    }
}

/// The library keeps something for each process, and what was killed leaves it behind.
impl Drop for Clock {
    fn drop(&mut self) {
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix("faketime_shm_").or_else(|| name.strip_prefix("sem.faketime_sem_"));
            if pid.is_some_and(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true)) {
                // Another test may have removed it.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
