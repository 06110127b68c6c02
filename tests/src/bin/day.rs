//! `make day`: a day's load in an hour, and whether anything grows that must not. Writes `docs/day.md` and `docs/day.svg`.
//!
//! `MINUTES=5` takes five minutes, to show that it works; what it saw then is in the cache folder alone.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program says what it found")]

use retrace_tests::day::{self, Plan};

fn main() {
    let plan = Plan::from_environment().unwrap_or_else(|problem| {
        eprintln!("day: {problem}");
        std::process::exit(2);
    });
    let folder = day::run(&plan);
    println!("day: everything held; {}", folder.join("day.md").display());
    if !plan.is_a_day() {
        println!("day: {} minutes are no day, so nothing was written into docs/", plan.minutes);
    }
}
