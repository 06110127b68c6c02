//! Where the table is.

use std::path::Path;

use retrace_lake::Location;

use super::form;
use super::options::{Options, UnresolvedOption};
use super::place::{ConfigError, Source};

/// The schemes of URLs that a table may have.
const SCHEMES: [&str; 3] = ["s3://", "gs://", "az://"];

/// The place of the table, the secrets of its store not fetched yet.
#[derive(Clone, Debug)]
pub(crate) struct Lake {
    /// An absolute folder or a URL.
    pub(super) url: String,
    given: Options,
}

impl Lake {
    /// What the table is opened at. Relative files of secrets count from `dir`.
    pub(crate) fn resolve(&self, dir: &Path) -> Result<Location, UnresolvedOption> {
        Ok(Location { url: self.url.clone(), options: self.given.resolve(dir)? })
    }
}

pub(super) fn lake(it: form::Lake, dir: &Path, source: &Source<'_>) -> Result<Lake, ConfigError> {
    let given = Options::read(it.options, |_| None, source)?;
    match (it.dir, it.url) {
        (Some(folder), Some(_)) => {
            let problem = "the table is in a folder or at a URL, not both: remove `dir` or `url`";
            Err(source.error(folder.span(), problem))
        }
        (folder, None) => {
            let folder = folder.map_or_else(|| "data/lake".into(), toml::Spanned::into_inner);
            Ok(Lake { url: dir.join(folder).to_string_lossy().into_owned(), given })
        }
        (None, Some(url)) if SCHEMES.iter().any(|scheme| url.as_ref().starts_with(scheme)) => {
            Ok(Lake { url: url.into_inner(), given })
        }
        (None, Some(url)) => {
            let problem = "not a place for the table; allowed: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, \
                           or `dir` for a folder";
            Err(source.error(url.span(), problem))
        }
    }
}
