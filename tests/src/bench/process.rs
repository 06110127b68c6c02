//! What the kernel tells of a process: CPU time by thread, resident memory.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::OnceLock;

/// Microseconds of CPU time by part: the beginning of a thread's name, up to its number.
pub type CpuByPart = BTreeMap<String, f64>;

/// CPU time that each part of a process has used so far. Threads that have ended are not among it.
#[must_use]
pub fn cpu_us(pid: u32) -> CpuByPart {
    let mut parts = CpuByPart::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs").flatten() {
        // A thread may end while it is looked at.
        if let Ok(stat) = fs::read_to_string(task.path().join("stat"))
            && let Some((part, us)) = thread_cpu_us(&stat)
        {
            *parts.entry(part).or_default() += us;
        }
    }
    parts
}

/// What was used between two looks.
#[must_use]
pub fn used_us(before: &CpuByPart, after: &CpuByPart) -> CpuByPart {
    let used = |(part, us): (&String, &f64)| {
        let part_before = before.get(part).copied().unwrap_or_default();
        (part.clone(), (us - part_before).max(0.0))
    };
    after.iter().map(used).collect()
}

/// CPU time that a process has used so far, threads that have ended included.
#[must_use]
pub fn cpu_us_of_all(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let (_, us) = thread_cpu_us(&stat).expect("Linux says it");
    us
}

/// Fields 14 and 15 behind the name in brackets, which may hold anything (`man proc_pid_stat`).
fn thread_cpu_us(stat: &str) -> Option<(String, f64)> {
    let (_, rest) = stat.split_once('(')?;
    let (name, fields) = rest.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    let part = name.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    Some((part.to_owned(), (user + system) * 1e6 / ticks_per_second()))
}

/// In what the kernel counts CPU time; C's library knows, and tells by `getconf`.
fn ticks_per_second() -> f64 {
    static TICKS: OnceLock<f64> = OnceLock::new();
    *TICKS.get_or_init(|| {
        let said = Command::new("getconf").arg("CLK_TCK").output().expect("getconf starts; libc-bin has it");
        String::from_utf8_lossy(&said.stdout).trim().parse().expect("a number")
    })
}

/// Resident memory now, in KiB.
#[must_use]
pub fn resident_kib(pid: u32) -> f64 {
    status_kib(pid, "VmRSS:")
}

/// The most that was resident since [`forget_peak`], in KiB.
#[must_use]
pub fn peak_kib(pid: u32) -> f64 {
    status_kib(pid, "VmHWM:")
}

/// Begins to look for the peak anew.
pub fn forget_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the process is ours");
}

fn status_kib(pid: u32, label: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(label)).expect("Linux says it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_counted_with_its_part_whatever_its_name_holds() {
        let stat = |name: &str| format!("7 ({name}) R 1 1 1 0 -1 0 0 0 0 0 25 75 0 0 20 0 1 0");
        let us = 100.0 * 1e6 / ticks_per_second();
        for (name, part) in
            [("proxy-3", "proxy"), ("log", "log"), ("a) (b", "a"), ("tokio-rt-worker", "tokio")]
        {
            assert_eq!(thread_cpu_us(&stat(name)), Some((part.to_owned(), us)), "{name}");
        }
    }
}
