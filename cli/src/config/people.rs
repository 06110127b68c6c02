//! Which principals are one person.

use std::collections::HashMap;

use super::form;
use super::place::{ConfigError, Source};

/// The person of each principal: whom `person` names, else whom it acts for, and so on to who is somebody of their own.
pub(super) fn people(
    principals: &[form::Principal],
    source: &Source<'_>,
) -> Result<HashMap<String, String>, ConfigError> {
    let next: HashMap<&str, &str> = principals
        .iter()
        .filter_map(|it| {
            let next = it.person.as_ref().or(it.on_behalf_of.as_ref())?;
            (next != it.name.as_ref()).then_some((it.name.as_ref().as_str(), next.as_str()))
        })
        .collect();
    let person = |it: &form::Principal| {
        let mut name = it.name.as_ref().as_str();
        for _ in 0..=next.len() {
            match next.get(name) {
                Some(next) => name = next,
                None => return Ok((it.name.as_ref().clone(), name.to_owned())),
            }
        }
        let problem = "`person` and `on_behalf_of` lead from here in a circle, so that nobody is who acts: let one of them end it";
        Err(source.error(it.name.span(), problem.to_owned()))
    };
    principals.iter().map(person).collect()
}
