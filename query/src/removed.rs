use std::collections::BTreeMap;
use std::fmt;

use arrow::temporal_conversions::date32_to_datetime;
use retrace_lake::Snapshot;

use crate::wire;

/// What retention has removed from the table, and what is so in no answer, whatever cut it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// How many events.
    pub rows: u64,
    /// By retention class, the first day of which sessions are kept, in days since the Unix epoch: those that began before are
    /// gone, but for what a legal hold keeps.
    pub first_days_kept: BTreeMap<String, i32>,
}

impl Removed {
    /// `None` if nothing was ever removed.
    pub(crate) fn from(snapshot: &Snapshot) -> Option<Self> {
        let (rows, first_days_kept) = (snapshot.rows_removed(), snapshot.first_days_kept().clone());
        (rows > 0).then_some(Self { rows, first_days_kept })
    }

    pub(crate) fn to_wire(&self) -> wire::Removed {
        let first_days_kept = self.first_days_kept.iter().map(|(class, day)| (class.clone(), *day)).collect();
        wire::Removed { rows: self.rows, first_days_kept }
    }

    pub(crate) fn from_wire(removed: wire::Removed) -> Self {
        Self { rows: removed.rows, first_days_kept: removed.first_days_kept.into_iter().collect() }
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "retention has removed {} events, of sessions that began before ", self.rows)?;
        let mut between = "";
        for (class, day) in &self.first_days_kept {
            let day = date32_to_datetime(*day).map(|day| day.format("%Y-%m-%d").to_string());
            write!(f, "{between}{} ({class})", day.unwrap_or_default())?;
            between = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_of_which_class_is_gone_and_comes_over_the_wire() {
        let days = [("short", 20_781), ("standard", 20_416)];
        let first_days_kept = days.map(|(class, day)| (class.to_owned(), day)).into_iter().collect();
        let removed = Removed { rows: 7, first_days_kept };
        assert_eq!(
            removed.to_string(),
            "retention has removed 7 events, of sessions that began before 2026-11-24 (short), 2025-11-24 (standard)"
        );
        assert_eq!(Removed::from_wire(removed.to_wire()), removed);
    }
}
