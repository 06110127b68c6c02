//! The file of rules.

use std::path::{Path, PathBuf};

use retrace_access::Principal;
use retrace_policy::rules::{POLICY_BYTES_MAX, Policy, TimeZone, World, WorldPrincipal, WorldTarget};

use super::place::{ConfigError, RuleProblem, Source};
use super::{Target, form};

/// Rules as they stand in their file.
pub(super) struct Rules {
    file: PathBuf,
    pub(super) text: String,
    time_zone: TimeZone,
}

/// Reads the file of rules, if the configuration names one.
pub(super) fn read(it: &form::Policy, dir: &Path, source: &Source<'_>) -> Result<Rules, ConfigError> {
    let time_zone = match &it.time_zone {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(name.as_ref()).map_err(|_| {
            let problem = format!(
                "there is no time zone `{}`; allowed: UTC, Europe/Berlin and their like",
                name.as_ref()
            );
            source.error(name.span(), problem)
        })?,
    };
    let Some(given) = &it.file else {
        return Ok(Rules { file: dir.to_owned(), text: String::new(), time_zone });
    };
    let file = dir.join(given.as_ref());
    let wrong = |problem: String| source.error(given.span(), format!("{}: {problem}", file.display()));
    let bytes = std::fs::metadata(&file).map_err(|error| wrong(error.to_string()))?.len();
    if bytes > POLICY_BYTES_MAX as u64 {
        return Err(wrong(format!("larger than {POLICY_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(&file).map_err(|error| wrong(error.to_string()))?;
    Ok(Rules { file, text, time_zone })
}

/// Checks the rules against whom and what the configuration has.
pub(super) fn policy(
    rules: &Rules,
    principals: &[Principal],
    targets: &[Target],
) -> Result<Policy, ConfigError> {
    let world = World {
        principals: principals.iter().map(principal).collect(),
        targets: targets
            .iter()
            .map(|it| WorldTarget { name: it.name.clone(), protocol: "postgres", labels: it.labels.clone() })
            .collect(),
    };
    Policy::load(&rules.text, &world, rules.time_zone.clone()).map_err(|problems| ConfigError::Rules {
        problems: problems
            .into_iter()
            .map(|problem| RuleProblem { file: rules.file.clone(), problem })
            .collect(),
    })
}

fn principal(it: &Principal) -> WorldPrincipal {
    WorldPrincipal {
        name: it.name.clone(),
        kind: it.kind,
        person: it.person.clone(),
        on_behalf_of: it.on_behalf_of.clone(),
        groups: it.groups.clone(),
        targets: it.targets.clone(),
    }
}
