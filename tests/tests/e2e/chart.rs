//! The Helm chart, by Helm: it is deploy/kubernetes.yaml, and its values do what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use retrace_tests::{Outcome, kubernetes, manifests};
use serde_json::{Value, json};

use crate::compose::root;
use crate::deployed::{text, tool};

/// What Helm makes of the chart for a release, with a value for each `NAME=JSON`.
fn template(release: &str, values: &[&str]) -> Outcome {
    let values = values.iter().flat_map(|value| ["--set-json", value]);
    tool("helm", &["template", release, "deploy/helm"].into_iter().chain(values).collect::<Vec<_>>())
}

fn rendered(release: &str, values: &[&str]) -> Vec<Value> {
    manifests(&template(release, values).expect_ok())
}

/// What a manifest is known by.
fn title(manifest: &Value) -> String {
    format!("{} {}", text(&manifest["kind"]), text(&manifest["metadata"]["name"]))
}

fn titles(manifests: &[Value]) -> Vec<String> {
    manifests.iter().map(title).collect()
}

#[test]
fn helm_has_nothing_to_say_against_the_chart() {
    let said = tool("helm", &["lint", "--strict", "deploy/helm"]).expect_ok();
    assert!(!said.contains("[WARNING]") && !said.contains("[ERROR]"), "{said}");
}

#[test]
fn the_chart_is_what_is_there_for_those_without_helm() {
    let (made, kept) = (rendered("retrace", &[]), kubernetes());
    assert_eq!(titles(&made), titles(&kept));
    for (made, kept) in made.iter().zip(&kept) {
        assert_eq!(made, kept, "{}", title(kept));
    }
}

#[test]
fn the_chart_gives_pods_the_time_of_the_configuration_that_is_there() {
    let read = |path: &str| fs::read_to_string(root().join("deploy").join(path)).expect("it is there");
    let config: toml::Table = read("retrace.toml").parse().expect("it is TOML");
    let values = &manifests(&read("helm/values.yaml"))[0];
    for (ms, seconds) in [("grace_ms", "graceSeconds"), ("wait_ms_max", "waitSecondsMax")] {
        let ms = config["drain"][ms].as_integer().expect("milliseconds");
        let ms = u64::try_from(ms).expect("not negative");
        assert_eq!(values["drain"][seconds].as_u64(), Some(ms.div_ceil(1000)), "{seconds}");
    }
}

#[test]
fn two_releases_in_one_namespace_have_nothing_in_common() {
    let other = rendered("other", &[]);
    let of_first: BTreeSet<_> = titles(&kubernetes()).into_iter().collect();
    assert!(titles(&other).iter().all(|title| !of_first.contains(title)), "{:?}", titles(&other));
    let selected = |manifest: &Value| match manifest["kind"].as_str() {
        Some("Service") => manifest["spec"]["selector"]["app"].clone(),
        Some("NetworkPolicy") => manifest["spec"]["podSelector"]["matchLabels"]["app"].clone(),
        _ => manifest["spec"]["selector"]["matchLabels"]["app"].clone(),
    };
    for manifest in &other {
        assert_eq!(selected(manifest), "other", "{}", title(manifest));
    }
    for deployment in other.iter().filter(|manifest| manifest["kind"] == "Deployment") {
        let template = &deployment["spec"]["template"];
        assert_eq!(template["metadata"]["labels"]["app"], "other", "{}", title(deployment));
        let secret = text(&template["spec"]["volumes"][0]["secret"]["secretName"]);
        assert!(secret.starts_with("other-"), "{secret}");
    }
}

/// The fields of an object, or the items of a list.
fn children(value: &Value) -> BTreeMap<String, &Value> {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), field)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        _ => BTreeMap::new(),
    }
}

/// Where one value is another than before, and what is there now; nothing is there where it went.
fn changes(at: &str, before: &Value, after: &Value) -> BTreeMap<String, Value> {
    let (old, new) = (children(before), children(after));
    if old.is_empty() || new.is_empty() {
        let change = (before != after).then(|| (at.to_owned(), after.clone()));
        return change.into_iter().collect();
    }
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let of = |all: &BTreeMap<String, &Value>, name: &str| match all.get(name) {
        Some(value) => (*value).clone(),
        None => Value::Null,
    };
    let changed = |name: &String| changes(&format!("{at}/{name}"), &of(&old, name), &of(&new, name));
    names.into_iter().flat_map(changed).collect()
}

/// What values change in the manifests; these stay the same ones.
#[track_caller]
fn changed_by(values: &[&str]) -> BTreeMap<String, Value> {
    let (before, after) = (kubernetes(), rendered("retrace", values));
    assert_eq!(titles(&before), titles(&after));
    before.iter().zip(&after).flat_map(|(before, after)| changes(&title(before), before, after)).collect()
}

#[test]
fn a_value_changes_pods_as_it_says_and_nothing_else() {
    let all = &["proxy", "ingest", "query"][..];
    let proxy = kubernetes().into_iter().find(|manifest| title(manifest) == "Deployment retrace-proxy");
    let files = &proxy.expect("it is there")["spec"]["template"]["spec"]["volumes"][0]["secret"]["items"];
    let files = files.as_array().expect("a list").len();
    let next = format!("template/spec/volumes/0/secret/items/{files}");
    for (value, roles, path, there) in [
        (
            r#"image="example.com/retrace:1""#,
            all,
            "template/spec/containers/0/image",
            json!("example.com/retrace:1"),
        ),
        (
            r#"ingest.image="retrace:0.2.0""#,
            &["ingest"],
            "template/spec/containers/0/image",
            json!("retrace:0.2.0"),
        ),
        (
            r#"imagePullSecrets=[{"name":"r"}]"#,
            all,
            "template/spec/imagePullSecrets",
            json!([{ "name": "r" }]),
        ),
        // 108 seconds more than it and the grace.
        ("drain.waitSecondsMax=300", all, "template/spec/terminationGracePeriodSeconds", json!(410)),
        ("ingest.replicas=4", &["ingest"], "replicas", json!(4)),
        (
            r#"query.resources.limits.memory="4Gi""#,
            &["query"],
            "template/spec/containers/0/resources/limits/memory",
            json!("4Gi"),
        ),
        (r#"proxy.secret="own""#, &["proxy"], "template/spec/volumes/0/secret/secretName", json!("own")),
        (
            r#"proxy.files=["kafka.password","shop.password","target-ca.pem","crm.password"]"#,
            &["proxy"],
            &next,
            json!({ "key": "crm.password", "path": "crm.password" }),
        ),
        (r#"query.podAnnotations.a="b""#, &["query"], "template/metadata/annotations", json!({ "a": "b" })),
        (r#"query.nodeSelector.a="b""#, &["query"], "template/spec/nodeSelector", json!({ "a": "b" })),
        (
            r#"query.tolerations=[{"key":"a","operator":"Exists"}]"#,
            &["query"],
            "template/spec/tolerations",
            json!([{ "key": "a", "operator": "Exists" }]),
        ),
    ] {
        let place = |role: &&str| (format!("Deployment retrace-{role}/spec/{path}"), there.clone());
        assert_eq!(changed_by(&[value]), roles.iter().map(place).collect(), "{value}");
    }
}

#[test]
fn a_value_changes_who_comes_in_as_it_says_and_nothing_else() {
    for (values, expected) in [
        (
            &[r#"proxy.service.type="LoadBalancer""#, r#"proxy.service.externalTrafficPolicy="Local""#][..],
            &[
                ("Service retrace-gate/spec/type", json!("LoadBalancer")),
                ("Service retrace-gate/spec/externalTrafficPolicy", json!("Local")),
            ][..],
        ),
        (
            &[r#"query.service.annotations.a="b""#],
            &[("Service retrace-query/metadata/annotations", json!({ "a": "b" }))],
        ),
        (
            &[r#"healthFrom=[{"podSelector":{}},{"namespaceSelector":{}}]"#],
            &[("NetworkPolicy retrace/spec/ingress/1/from/1", json!({ "namespaceSelector": {} }))],
        ),
    ] {
        let expected = expected.iter().map(|(place, there)| ((*place).to_owned(), there.clone()));
        assert_eq!(changed_by(values), expected.collect(), "{values:?}");
    }
}

#[test]
fn a_value_that_nothing_reads_or_that_lets_everybody_in_is_refused() {
    for (value, named) in [
        ("proxy.replica=4", "'replica'"),
        (r#"ingest.service={"type":"LoadBalancer"}"#, "'/ingest/service'"),
        ("proxy.podAnnotations.a=true", "'/proxy/podAnnotations/a'"),
        (r#"proxy.files=["../x"]"#, "'/proxy/files/0'"),
        ("healthFrom=[]", "'/healthFrom'"),
        ("healthFrom=[{}]", "'/healthFrom/0'"),
    ] {
        let said = template("retrace", &[value]).expect_failure();
        assert!(said.contains(named), "{value}: {said}");
    }
}

#[test]
fn the_values_that_are_documented_are_taken_and_no_other_manifests_come_of_them() {
    let documented = fs::read_to_string(root().join("docs/compose.md")).expect("it is there");
    let (_, block) = documented.split_once("\n```yaml\n").expect("an example");
    let (values, _) = block.split_once("\n```\n").expect("its end");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), values).expect("it is writable");
    let path = file.path().to_str().expect("it is text");
    let made = manifests(&tool("helm", &["template", "retrace", "deploy/helm", "-f", path]).expect_ok());
    assert_eq!(titles(&made), titles(&kubernetes()));
    assert_ne!(made, kubernetes(), "they change something");
}
