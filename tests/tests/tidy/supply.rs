//! Where dependencies come from, under which licence, and how many of each.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{assert_none, cargo, root};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn toml_file(path: &str) -> toml::Table {
    std::fs::read_to_string(root().join(path)).expect("the file is there").parse().expect("it is TOML")
}

/// The texts of a list of texts.
fn texts(list: &toml::Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|item| item.as_str().expect("a text")).collect()
}

/// Versions of each package of Cargo.lock.
fn locked() -> BTreeMap<String, BTreeSet<String>> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in toml_file("Cargo.lock")["package"].as_array().expect("packages") {
        let text = |key: &str| package[key].as_str().expect("a text").to_owned();
        versions.entry(text("name")).or_default().insert(text("version"));
    }
    versions
}

/// The packages of Cargo.lock that depend on one.
fn users_of(name: &str) -> Vec<String> {
    let lock = toml_file("Cargo.lock");
    let packages = lock["package"].as_array().expect("packages").iter();
    let uses = |package: &&toml::Value| {
        let dependencies = package.get("dependencies").map(texts).unwrap_or_default();
        dependencies.iter().any(|dependency| dependency.split(' ').next() == Some(name))
    };
    packages.filter(uses).map(|package| package["name"].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn dependencies_come_from_the_public_registry() {
    let breaches: Vec<_> = toml_file("Cargo.lock")["package"]
        .as_array()
        .expect("packages")
        .iter()
        .filter(|package| package.get("source").is_some_and(|source| source.as_str() != Some(CRATES_IO)))
        .map(|package| format!("{} comes from {}", package["name"], package["source"]))
        .collect();
    assert_none("sources in Cargo.lock", &breaches);
}

#[test]
fn banned_crates_are_absent_and_key_crates_have_one_version() {
    let versions = locked();
    let deny = toml_file("deny.toml");
    let rules = deny["bans"]["deny"].as_array().expect("a list");
    let mut breaches = Vec::new();
    for rule in rules {
        let name = rule["crate"].as_str().expect("a name");
        let single = rule.get("deny-multiple-versions").is_some_and(|value| value.as_bool() == Some(true));
        match (single, versions.get(name)) {
            (true, Some(found)) if found.len() > 1 => breaches.push(format!("{name} in {found:?}")),
            (true, None) => breaches.push(format!("{name} is not used any more; take its rule away")),
            (false, Some(_)) => {
                let wrappers = rule.get("wrappers").map(texts).unwrap_or_default();
                let users = users_of(name).into_iter().filter(|user| !wrappers.contains(&user.as_str()));
                let before = breaches.len();
                breaches.extend(users.map(|user| format!("{name} is banned, and {user} uses it")));
                if wrappers.is_empty() && breaches.len() == before {
                    breaches.push(format!("{name} is banned"));
                }
            }
            _ => {}
        }
    }
    assert_none("bans of deny.toml against Cargo.lock", &breaches);
}

#[test]
fn every_licence_is_on_the_list() {
    let deny = toml_file("deny.toml");
    let allow = texts(&deny["licenses"]["allow"]);
    let exceptions: BTreeMap<_, _> = deny["licenses"]["exceptions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|rule| (rule["crate"].as_str().expect("a name"), texts(&rule["allow"])))
        .collect();
    let metadata: Value = serde_json::from_str(&cargo(&[
        "metadata",
        "--format-version=1",
        "--locked",
        "--filter-platform=x86_64-unknown-linux-gnu",
    ]))
    .expect("cargo metadata is JSON");
    let mut breaches = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let licence = package["license"].as_str().unwrap_or("no licence");
        let also = exceptions.get(name).map(Vec::as_slice).unwrap_or_default();
        if !permits(licence, &|id| allow.contains(&id) || also.contains(&id)) {
            breaches.push(format!("{name}: {licence}"));
        }
    }
    assert_none("licences that deny.toml does not allow", &breaches);
}

/// Whether an SPDX expression (annex D of the specification) is met; the older `/` is read as `OR`.
fn permits(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = any_of(&mut rest, allowed);
    met && rest.is_empty()
}

fn any_of(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = all_of(words, allowed);
    while let Some(rest) = words.strip_prefix(&["OR"]) {
        *words = rest;
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one(words, allowed);
    while let Some(rest) = words.strip_prefix(&["AND"]) {
        *words = rest;
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> bool {
    match **words {
        ["(", ref rest @ ..] => {
            *words = rest;
            let met = any_of(words, allowed);
            let closed = words.first() == Some(&")");
            *words = words.get(1..).unwrap_or_default();
            met && closed
        }
        [id, "WITH", exception, ref rest @ ..] => {
            *words = rest;
            allowed(&format!("{id} WITH {exception}"))
        }
        [id, ref rest @ ..] => {
            *words = rest;
            allowed(id)
        }
        [] => false,
    }
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let mit = |id: &str| id == "MIT" || id == "Apache-2.0 WITH LLVM-exception";
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("GPL-3.0 OR MIT AND ISC", false),
        ("(GPL-3.0 OR MIT) AND MIT", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("(MIT", false),
        ("MIT)", false),
        ("", false),
        ("no licence", false),
    ] {
        assert_eq!(permits(expression, &mit), met, "{expression}");
    }
}
