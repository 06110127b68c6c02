//! What is looked at, and how it went on.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::drawing::{Line, Panel, Picture};
use crate::bench::Samples;

/// Something that is measured.
#[derive(Debug)]
pub(super) struct Column {
    /// What it is called.
    pub(super) name: &'static str,
    /// In which unit.
    pub(super) unit: &'static str,
    /// The panel in which it is drawn.
    pub(super) panel: &'static str,
}

const fn column(panel: &'static str, unit: &'static str, name: &'static str) -> Column {
    Column { name, unit, panel }
}

/// The processes whose memory is looked at, in the order of the services.
pub(super) const PROCESSES: [&str; 5] = ["proxy 1", "proxy 2", "ingest 1", "ingest 2", "query"];

/// The same, at most since the start.
pub(super) const PEAKS: [&str; 5] =
    ["proxy 1 at most", "proxy 2 at most", "ingest 1 at most", "ingest 2 at most", "query at most"];

/// The share of a core that each of them used since the look before, and what the store used.
pub(super) const CPU: [&str; 6] =
    ["proxy 1, CPU", "proxy 2, CPU", "ingest 1, CPU", "ingest 2, CPU", "query, CPU", "S3 server, CPU"];

pub(super) const FILES: &str = "live data files";
pub(super) const FILES_OF_A_KIND: &str = "small files of one kind, at most";
pub(super) const BYTES: &str = "bytes of live data files";
pub(super) const OBJECTS: &str = "objects in the bucket";
pub(super) const LOG_FILES: &str = "files of the table's own log";
pub(super) const LAG: &str = "lag, as ingest says";
pub(super) const BEHIND: &str = "durable and not in the table";
pub(super) const BY_ID: &str = "a session by its id";
pub(super) const COUNTED: &str = "events of a session, counted";
pub(super) const REPLAYED: &str = "a session, replayed";
pub(super) const MINUTE: &str = "commands of the last minute";
pub(super) const OWN_MINUTE: &str = "the same, by a reader of their own";
pub(super) const LATEST: &str = "10 latest sessions of ten minutes";
pub(super) const FRESH: &str = "an event just made";
pub(super) const LATEST_OF_ALL: &str = "10 latest sessions of all";
pub(super) const RATE: &str = "answered commands";
pub(super) const LATE: &str = "the latest command after its time";

const MEMORY: &str = "Resident memory";
const PEAK: &str = "Resident memory, at most since the start";
const PROCESSOR: &str = "CPU time, of one core";
const LIVE: &str = "Files of the table";
const SIZE: &str = "Size of the table";
const BUCKET: &str = "What lies in the bucket";
const WAITING: &str = "Records on their way into the table";
const ONE: &str = "Questions about one session";
const RECENT: &str = "Questions about what is recent";
const ALL: &str = "A question that reads every session";
const DONE: &str = "The load";
const LATENESS: &str = "How late the load is";

/// All of it, by panels.
pub(super) const COLUMNS: [Column; 33] = [
    column(MEMORY, "MiB", PROCESSES[0]),
    column(MEMORY, "MiB", PROCESSES[1]),
    column(MEMORY, "MiB", PROCESSES[2]),
    column(MEMORY, "MiB", PROCESSES[3]),
    column(MEMORY, "MiB", PROCESSES[4]),
    column(PEAK, "MiB", PEAKS[0]),
    column(PEAK, "MiB", PEAKS[1]),
    column(PEAK, "MiB", PEAKS[2]),
    column(PEAK, "MiB", PEAKS[3]),
    column(PEAK, "MiB", PEAKS[4]),
    column(PROCESSOR, "%", CPU[0]),
    column(PROCESSOR, "%", CPU[1]),
    column(PROCESSOR, "%", CPU[2]),
    column(PROCESSOR, "%", CPU[3]),
    column(PROCESSOR, "%", CPU[4]),
    column(PROCESSOR, "%", CPU[5]),
    column(LIVE, "files", FILES),
    column(LIVE, "files", FILES_OF_A_KIND),
    column(SIZE, "MiB", BYTES),
    column(BUCKET, "files", OBJECTS),
    column(BUCKET, "files", LOG_FILES),
    column(WAITING, "records", LAG),
    column(WAITING, "records", BEHIND),
    column(ONE, "ms", BY_ID),
    column(ONE, "ms", COUNTED),
    column(ONE, "ms", REPLAYED),
    column(RECENT, "ms", MINUTE),
    column(RECENT, "ms", OWN_MINUTE),
    column(RECENT, "ms", LATEST),
    column(RECENT, "ms", FRESH),
    column(ALL, "ms", LATEST_OF_ALL),
    column(DONE, "a second", RATE),
    column(LATENESS, "ms", LATE),
];

/// Panels that are not drawn: they say nothing that another does not.
const UNDRAWN: [&str; 2] = [PEAK, LATENESS];

/// One look at everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// When, counted from the begin of the load.
    pub(super) at: Duration,
    values: BTreeMap<&'static str, f64>,
}

impl Sample {
    /// Nothing is measured yet.
    #[must_use]
    pub(super) fn at(at: Duration) -> Self {
        Self { at, values: BTreeMap::new() }
    }

    /// Notes a value of one of [`COLUMNS`].
    ///
    /// # Panics
    /// If there is no such column.
    pub(super) fn set(&mut self, name: &'static str, value: f64) {
        assert!(COLUMNS.iter().any(|column| column.name == name), "there is no column {name}");
        self.values.insert(name, value);
    }

    /// What was measured.
    #[must_use]
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }

    /// A row of a CSV, in the order of [`COLUMNS`]; what was not measured is empty.
    #[must_use]
    pub(super) fn row(&self) -> String {
        let mut row = format!("{:.1}", self.at.as_secs_f64());
        for column in &COLUMNS {
            let value = self.value(column.name).map(|value| format!("{value:.1}"));
            let value = value.map(|value| value.trim_end_matches(".0").to_owned());
            write!(row, ",{}", value.unwrap_or_default()).expect("a String takes all");
        }
        row
    }
}

/// The row above all others.
#[must_use]
pub(super) fn heading() -> String {
    let names = COLUMNS.iter().map(|column| format!("\"{} ({})\"", column.name, column.unit));
    std::iter::once("\"at (s)\"".to_owned()).chain(names).collect::<Vec<_>>().join(",")
}

/// All looks, in the order of time.
#[derive(Clone, Debug)]
pub(super) struct Looks {
    samples: Vec<Sample>,
    planned: Duration,
}

impl Looks {
    /// None yet, of a load that takes so long.
    #[must_use]
    pub(super) fn during(planned: Duration) -> Self {
        Self { samples: Vec::new(), planned }
    }

    /// Adds the next one.
    pub(super) fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// All of them.
    #[must_use]
    pub(super) fn all(&self) -> &[Sample] {
        &self.samples
    }

    /// What was measured of a column in a quarter of the load, counted from 1. What comes after its time is of the last.
    #[must_use]
    pub(super) fn quarter(&self, name: &str, quarter: u32) -> Samples {
        let of = |sample: &&Sample| {
            let share = sample.at.as_secs_f64() / self.planned.as_secs_f64();
            let before = f64::from(quarter - 1) / 4.0;
            share >= before && (quarter == 4 || share < before + 0.25)
        };
        let mut found = Samples::default();
        self.samples
            .iter()
            .filter(of)
            .filter_map(|sample| sample.value(name))
            .for_each(|value| found.push(value));
        found
    }

    /// The largest value of a column.
    #[must_use]
    pub(super) fn largest(&self, name: &str) -> Option<f64> {
        self.samples.iter().filter_map(|sample| sample.value(name)).reduce(f64::max)
    }

    /// All curves.
    #[must_use]
    pub(super) fn picture(&self) -> Picture {
        let mut panels: Vec<Panel> = Vec::new();
        for column in COLUMNS.iter().filter(|column| !UNDRAWN.contains(&column.panel)) {
            let minute = |sample: &Sample| sample.at.as_secs_f64() / 60.0;
            let points = self.samples.iter().filter_map(|it| Some((minute(it), it.value(column.name)?)));
            let line = Line { name: column.name.to_owned(), points: points.collect() };
            match panels.last_mut().filter(|panel| panel.title == column.panel) {
                Some(panel) => panel.lines.push(line),
                None => panels.push(Panel {
                    title: column.panel.to_owned(),
                    unit: column.unit.to_owned(),
                    lines: vec![line],
                }),
            }
        }
        let title = "Memory, files, lag and times of answers under an even load".to_owned();
        Picture { title, panels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(values: &[f64]) -> Looks {
        let mut looks = Looks::during(Duration::from_secs(80));
        for (number, value) in (0..).zip(values) {
            let mut sample = Sample::at(Duration::from_secs(number * 10));
            sample.set(FILES, *value);
            looks.push(sample);
        }
        looks
    }

    #[test]
    fn a_quarter_has_the_looks_of_its_time_and_the_last_also_what_is_late() {
        let looks = looks(&[1.0, 2.0, 3.0, 5.0, 6.0, 7.0, 9.0, 8.0, 10.0]);
        let medians = [1, 2, 3, 4].map(|quarter| looks.quarter(FILES, quarter).median());
        assert_eq!(medians, [Some(1.0), Some(3.0), Some(6.0), Some(9.0)]);
        assert_eq!(looks.quarter(LAG, 1).median(), None);
        assert_eq!((looks.largest(FILES), looks.largest(LAG)), (Some(10.0), None));
    }

    #[test]
    fn a_row_has_a_cell_for_each_column_of_the_heading() {
        let mut sample = Sample::at(Duration::from_millis(15_040));
        sample.set(PROCESSES[0], 12.34);
        sample.set(LATE, 7.0);
        let row = sample.row();
        assert!(row.starts_with("15.0,12.3,,") && row.ends_with(",,7"), "{row}");
        assert_eq!(row.matches(',').count(), COLUMNS.len());
        assert_eq!(heading().matches("\",\"").count(), COLUMNS.len());
    }

    #[test]
    fn each_column_has_a_name_of_its_own_and_each_panel_one_unit() {
        let mut units = BTreeMap::new();
        for (index, column) in COLUMNS.iter().enumerate() {
            assert!(COLUMNS[..index].iter().all(|other| other.name != column.name), "{}", column.name);
            assert!(column.name.len() <= 34, "the legend has no room for {}", column.name);
            assert_eq!(*units.entry(column.panel).or_insert(column.unit), column.unit, "{}", column.panel);
        }
        let panels = looks(&[1.0]).picture().panels;
        assert_eq!(panels.len() + UNDRAWN.len(), units.len(), "the columns of a panel stand together");
        assert!(UNDRAWN.iter().all(|panel| units.contains_key(panel)));
    }

    /// What is written into the checkout has few lines and few bytes.
    #[test]
    fn the_picture_of_an_hour_is_small() {
        let mut looks = Looks::during(Duration::from_secs(3600));
        for number in 1..240_u64 {
            let mut sample = Sample::at(Duration::from_secs(number * 15));
            for (index, column) in (0..).zip(&COLUMNS) {
                let value = (number * 7_919 + index * 104_729) % 1_000;
                sample.set(column.name, f64::from(u32::try_from(value).expect("below a thousand")));
            }
            looks.push(sample);
        }
        let drawn = super::super::drawing::svg(&looks.picture());
        assert!(drawn.len() <= 60 * 1024 && drawn.lines().count() < 500, "{} bytes", drawn.len());
    }
}
