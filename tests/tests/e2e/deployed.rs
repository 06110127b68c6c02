//! What is deployed, as it is read where it is: docker-compose.yml by Docker Compose.

use std::collections::BTreeSet;
use std::process::Command;

use retrace_tests::{Outcome, compose, deploy_tool, run};
use serde_json::{Map, Value, json};

use crate::common::PATIENCE;
use crate::compose::root;

/// Runs a program that deploys, in the folder of the workspace, without what the tests' surroundings would have it do.
pub(crate) fn tool(name: &str, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(deploy_tool(name));
    command.args(arguments).current_dir(root()).env_clear();
    for variable in ["PATH", "HOME", "DOCKER_CONFIG"] {
        command.envs(std::env::var_os(variable).map(|value| (variable, value)));
    }
    run(command, b"", PATIENCE)
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}"))
}

fn names(value: &Value) -> BTreeSet<&String> {
    object(value).keys().collect()
}

/// A text or a number as text.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// docker-compose.yml as Docker Compose reads it.
fn compose_of_docker() -> Value {
    let arguments = ["-f", "docker-compose.yml", "--profile", "tools", "config", "--format", "json"];
    let outcome = tool("docker-compose", &arguments);
    let config = serde_json::from_str(&outcome.expect_ok()).expect("JSON");
    // Such as of a variable that is not set, where the `$` was the shell's of the container.
    assert!(!outcome.err().to_lowercase().contains("warn"), "{}", outcome.err());
    config
}

#[test]
fn docker_reads_each_service_as_the_tests_do() {
    let (docker, ours) = (compose_of_docker(), compose());
    assert_eq!(names(&docker["services"]), names(&ours["services"]));
    for (name, service) in object(&ours["services"]) {
        let (service, read) = (object(service), object(&docker["services"][name]));
        for (key, said) in service {
            let found = read.get(key).unwrap_or(&Value::Null);
            assert_eq!(meaning(key, found), meaning(key, said), "{key} of {name}");
        }
        let more = read.iter().filter(|(key, found)| !found.is_null() && !service.contains_key(*key));
        // Who is on the network of another one waits for it, without a word.
        let joins = service.get("network_mode").is_some_and(|mode| text(mode).starts_with("service:"));
        let expected: &[&str] = if joins { &["depends_on"] } else { &[] };
        assert_eq!(more.map(|(key, _)| key).collect::<Vec<_>>(), expected, "what Docker adds to {name}");
    }
}

#[test]
fn docker_reads_networks_and_volumes_as_the_tests_do() {
    let (docker, ours) = (compose_of_docker(), compose());
    assert_eq!(names(&docker["volumes"]), names(&ours["volumes"]));
    assert_eq!(names(&docker["networks"]), names(&ours["networks"]));
    for (name, network) in object(&ours["networks"]) {
        let read = &docker["networks"][name];
        assert_eq!(read["internal"] == true, network["internal"] == true, "{name}");
    }
    for (name, made) in object(&docker["networks"]).iter().chain(object(&docker["volumes"])) {
        assert!(made["external"] != true, "{name} is somebody else's");
    }
}

/// What a setting of a service means, of the several ways to say it.
fn meaning(key: &str, said: &Value) -> Value {
    let each = |means: fn(&Value) -> Value| said.as_array().into_iter().flatten().map(means).collect();
    match key {
        "mem_limit" => bytes(said).into(),
        "stop_grace_period" | "interval" | "timeout" | "start_period" => seconds(said).into(),
        "build" if said == "." => json!({ "context": root(), "dockerfile": "Dockerfile" }),
        "networks" => networks(said),
        "volumes" => each(volume),
        "ports" => each(port),
        "healthcheck" => object(said).iter().map(|(key, said)| (key.clone(), meaning(key, said))).collect(),
        "depends_on" => object(said).iter().map(|(on, how)| (on.clone(), how["condition"].clone())).collect(),
        // Docker adds what is empty.
        "deploy" => {
            let deploy = object(said).iter().filter(|(_, how)| **how != json!({}));
            deploy.map(|(key, how)| (key.clone(), how.clone())).collect()
        }
        _ => said.clone(),
    }
}

/// `512m`, or what it is.
fn bytes(said: &Value) -> u64 {
    let said = text(said);
    let digits = said.trim_end_matches(['m', 'g']);
    let unit: u64 = match &said[digits.len()..] {
        "" => 1,
        "m" => 1 << 20,
        "g" => 1 << 30,
        unit => panic!("{unit} is no unit of memory"),
    };
    digits.parse::<u64>().expect("a number") * unit
}

/// `125s`, or `2m5s`.
fn seconds(said: &Value) -> u64 {
    let (mut seconds, mut number) = (0, 0);
    for c in text(said).chars() {
        match c {
            'h' => seconds += std::mem::take(&mut number) * 3600,
            'm' => seconds += std::mem::take(&mut number) * 60,
            's' => seconds += std::mem::take(&mut number),
            _ => number = number * 10 + u64::from(c.to_digit(10).expect("a digit")),
        }
    }
    assert_eq!(number, 0, "{said} has no unit at its end");
    seconds
}

/// Networks by their names, with the names by which a service is known there.
fn networks(said: &Value) -> Value {
    match said {
        Value::Array(networks) => networks.iter().map(|network| (text(network), Value::Null)).collect(),
        _ => object(said).iter().map(|(name, how)| (name.clone(), how["aliases"].clone())).collect(),
    }
}

/// `FROM:TO:ro`, or what it is: a volume or a path, from where, to where, and whether it can only be read.
fn volume(said: &Value) -> Value {
    let Some(text) = said.as_str() else {
        let read_only = said["read_only"] == true;
        return json!([said["type"], said["source"], said["target"], read_only]);
    };
    let parts: Vec<_> = text.split(':').collect();
    let read_only = parts.get(2) == Some(&"ro");
    match parts[0].strip_prefix("./") {
        Some(path) => json!(["bind", root().join(path), parts[1], read_only]),
        None => json!(["volume", parts[0], parts[1], read_only]),
    }
}

/// `HOST:PUBLISHED:PORT`, or what it is.
fn port(said: &Value) -> Value {
    let Some(short) = said.as_str() else {
        return json!([said["host_ip"], text(&said["published"]), text(&said["target"]), said["protocol"]]);
    };
    let parts: Vec<_> = short.split(':').collect();
    json!([parts[0], parts[1], parts[2], "tcp"])
}
