//! What is deployed: docker-compose.yml, and the manifests for Kubernetes; and the programs that read them there.

use std::path::PathBuf;

use serde_json::Value;

use crate::cache;

/// docker-compose.yml; what services share is in each of them.
///
/// # Panics
/// If it is not YAML.
#[must_use]
pub fn compose() -> Value {
    yaml(include_str!("../../docker-compose.yml"))
}

/// The manifests of deploy/kubernetes.yaml.
///
/// # Panics
/// If one is not YAML.
#[must_use]
pub fn kubernetes() -> Vec<Value> {
    manifests(include_str!("../../deploy/kubernetes.yaml"))
}

/// The manifests of a text, such as `helm template` writes.
///
/// # Panics
/// If one is not YAML.
#[must_use]
pub fn manifests(text: &str) -> Vec<Value> {
    text.strip_prefix("---\n").unwrap_or(text).split("\n---\n").map(yaml).collect()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("it is YAML")
}

/// `docker-compose` or `helm`, as `scripts/deploy-tools` installed it.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn deploy_tool(name: &str) -> PathBuf {
    let program = cache("RETRACE_DEPLOY", "deploy").join("bin").join(name);
    assert!(program.exists(), "{} is not there; run `make test`", program.display());
    program
}
