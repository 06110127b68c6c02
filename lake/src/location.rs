//! Where a table may lie: a folder, or an object store by its URL.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use deltalake::ensure_table_uri;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

use crate::durable;
use crate::error::LakeError;

/// How long a request that fails is tried again within one operation, so that a caller hears of a store that is away.
const RETRY_TIME_MAX: Duration = Duration::from_secs(20);

/// Where the table is, and how its store is reached.
#[derive(Clone, Default)]
pub struct Location {
    /// A folder, or a URL: `file://`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`.
    pub url: String,
    /// The store's options by the names that the `object_store` crate has for them, such as `aws_endpoint`. What is not
    /// among them is taken from the environment, as the store's own tools do.
    pub options: BTreeMap<String, String>,
}

/// Options may be secrets.
impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Location").field("url", &self.url).field("options", &self.options.keys()).finish()
    }
}

/// A store, and where in it the table begins.
pub(crate) struct Opened {
    pub(crate) root: Arc<dyn ObjectStore>,
    pub(crate) prefix: Path,
    pub(crate) url: Url,
}

impl Location {
    /// A place without options.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), options: BTreeMap::new() }
    }

    /// Makes the store's client. Nothing is asked of the store yet.
    pub(crate) fn open(&self) -> Result<Opened, LakeError> {
        let wrong = || LakeError::Location { location: self.url.clone() };
        // The library takes folders apart better than URLs of stores that were not registered with it.
        let url = match self.url.contains("://") {
            true => Url::parse(&self.url).map_err(|_| wrong())?,
            false => ensure_table_uri(&self.url).map_err(|_| wrong())?,
        };
        let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|_| wrong())?;
        let root: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::Local => {
                if let Some(name) = self.options.keys().next() {
                    return Err(LakeError::Option { name: name.clone(), location: self.url.clone() });
                }
                durable::local(&url.to_file_path().map_err(|()| wrong())?)
            }
            ObjectStoreScheme::AmazonS3 => {
                let builder = AmazonS3Builder::from_env().with_url(url.as_str());
                let builder =
                    self.configured(builder, |builder, key, value| builder.with_config(key, value))?;
                // Commits rest on it, so nobody may turn it off.
                let builder = builder.with_conditional_put(S3ConditionalPut::ETagMatch).with_retry(retry());
                Arc::new(builder.build().map_err(store)?)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str());
                let builder =
                    self.configured(builder, |builder, key, value| builder.with_config(key, value))?;
                Arc::new(builder.with_retry(retry()).build().map_err(store)?)
            }
            ObjectStoreScheme::MicrosoftAzure => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str());
                let builder =
                    self.configured(builder, |builder, key, value| builder.with_config(key, value))?;
                Arc::new(builder.with_retry(retry()).build().map_err(store)?)
            }
            _ => return Err(wrong()),
        };
        Ok(Opened { root, prefix, url })
    }

    /// Sets the options. The library's own way passes over a name that it does not know, and with it over what somebody
    /// meant.
    fn configured<B, K: FromStr>(
        &self,
        builder: B,
        set: impl Fn(B, K, &String) -> B,
    ) -> Result<B, LakeError> {
        self.options.iter().try_fold(builder, |builder, (name, value)| match name.parse() {
            Ok(key) => Ok(set(builder, key, value)),
            Err(_) => Err(LakeError::Option { name: name.clone(), location: self.url.clone() }),
        })
    }
}

fn retry() -> RetryConfig {
    RetryConfig { retry_timeout: RETRY_TIME_MAX, ..RetryConfig::default() }
}

fn store(source: object_store::Error) -> LakeError {
    LakeError::Store { source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(url: &str, options: &[(&str, &str)]) -> Location {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Location { url: url.to_owned(), options: options.collect() }
    }

    #[test]
    fn each_kind_of_store_takes_its_own_options_and_no_other() {
        let stores: [(&str, &[(&str, &str)]); 3] = [
            ("s3://bucket/lake", &[("aws_region", "eu-central-1")]),
            ("gs://bucket/lake", &[("google_skip_signature", "true")]),
            (
                "az://container/lake",
                &[("azure_storage_account_name", "audit"), ("azure_skip_signature", "true")],
            ),
        ];
        for (url, options) in stores {
            let opened = with(url, options).open().map(|opened| opened.prefix);
            assert_eq!(opened.map(String::from).ok().as_deref(), Some("lake"), "{url}");
            let mut wrong = options.to_vec();
            wrong.push(("regoin", "secret-value"));
            let Err(error) = with(url, &wrong).open() else {
                panic!("{url} took an option that it does not have")
            };
            assert!(matches!(&error, LakeError::Option { name, .. } if name == "regoin"), "{error}");
            assert!(!format!("{error}{:?}", with(url, &wrong)).contains("secret-value"));
        }
        let folder = std::env::temp_dir().join("retrace-location");
        let folder = folder.to_string_lossy();
        assert!(matches!(with(&folder, &[("aws_region", "x")]).open(), Err(LakeError::Option { .. })));
        assert!(matches!(with("ftp://host/lake", &[]).open(), Err(LakeError::Location { .. })));
    }
}
