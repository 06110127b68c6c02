//! What is deployed: docker-compose.yml, and the manifests for Kubernetes.

use serde_json::Value;

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
    include_str!("../../deploy/kubernetes.yaml").split("\n---\n").map(yaml).collect()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("it is YAML")
}
