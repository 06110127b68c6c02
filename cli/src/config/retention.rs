//! How long events are kept.

use retrace_ingest::Periods;
use toml::Spanned;

use super::form;
use super::place::{ConfigError, Source};

/// Longest period, in days: a hundred years.
const RETENTION_DAYS_MAX: u32 = 36_525;

/// Checks that no class is kept for longer than one whose name says that it is.
pub(super) fn retention(it: &form::Retention, source: &Source<'_>) -> Result<Periods, ConfigError> {
    let classes = [&it.short_days, &it.standard_days, &it.long_days].map(Option::as_ref);
    let names = ["short_days", "standard_days", "long_days"];
    for (index, days) in classes.into_iter().enumerate() {
        let Some(days) = days else { continue };
        if !(1..=RETENTION_DAYS_MAX).contains(days.as_ref()) {
            let problem =
                format!("is in days, 1 to {RETENTION_DAYS_MAX}; what is to be kept for good has none");
            return Err(source.error(days.span(), problem));
        }
        for (name, shorter) in names.into_iter().zip(&classes[..index]) {
            if shorter.is_none_or(|shorter| shorter.as_ref() > days.as_ref()) {
                let found = shorter.map_or("not there, which is for good".to_owned(), number);
                let problem = format!("`{name}` is {found}: no class is kept for longer than the next");
                return Err(source.error(days.span(), problem));
            }
        }
    }
    let [short_days, standard_days, long_days] = classes.map(|days| days.map(|days| *days.as_ref()));
    Ok(Periods { short_days, standard_days, long_days })
}

fn number(days: &Spanned<u32>) -> String {
    days.as_ref().to_string()
}
