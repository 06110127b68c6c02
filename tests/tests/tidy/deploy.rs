//! What is deployed against what the tests run: docker-compose.yml, deploy/kubernetes.yaml, the Dockerfile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use retrace_tests::{compose, haproxy_arguments, kubernetes, s3_arguments, service_arguments};
use serde_json::{Map, Value};

use crate::{assert_none, root};

/// The services of Retrace, by what `retrace` is told to be.
const ROLES: [&str; 3] = ["proxy", "ingest", "query"];

/// Where each of them has its configuration.
const CONFIGURATION: &str = "/etc/retrace/retrace.toml";

/// Seconds that a process may take for its end after its times of `[drain]`: docs/operations.md.
const END_S: u64 = 60 + 30;

/// Seconds more to give back what Vault lent, which the containers of docker-compose.yml do not use.
const VAULT_END_S: u64 = 15;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn toml_file(path: &str) -> toml::Table {
    read(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn services() -> Map<String, Value> {
    compose()["services"].as_object().expect("services").clone()
}

/// The texts of a list; none if there is no list.
fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.map(|item| item.as_str().expect("a text").to_owned()).collect()
}

/// How `retrace` is told to be a role, as the tests tell it.
fn arguments_of(role: &str) -> Vec<String> {
    let arguments = service_arguments(role, Path::new(CONFIGURATION));
    arguments.into_iter().map(|argument| argument.into_string().expect("it is text")).collect()
}

/// The port at the end of an address in deploy/retrace.toml.
fn port(path: [&str; 2]) -> String {
    let config = toml_file("deploy/retrace.toml");
    let table = match path {
        [table, ""] => &config[table],
        [table, inner] => &config[table][inner],
    };
    let address = table["listen"].as_str().expect("an address");
    assert!(address.starts_with("0.0.0.0:"), "{address}: a container is reached from outside it");
    address.rsplit(':').next().expect("a port").to_owned()
}

#[test]
fn a_container_runs_what_the_tests_run() {
    let services = services();
    for role in ROLES {
        assert_eq!(texts(&services[role]["command"]), arguments_of(role));
        assert_eq!(services[role].get("entrypoint"), None, "{role} runs what the image runs");
        assert_eq!(services[role]["deploy"]["replicas"], 2, "two of {role}");
        assert_eq!(services[role]["image"], services["init"]["image"], "one image");
    }
    assert!(read("Dockerfile").contains("\nENTRYPOINT [\"retrace\"]\n"), "the image runs `retrace`");
    let store = s3_arguments(":7070", "/data/accounts", "/data/buckets");
    assert_eq!(texts(&services["store"]["command"]), store);
    assert!(read("deploy/store/start").ends_with("\nexec versitygw \"$@\"\n"));
    assert_eq!(texts(&services["haproxy"]["entrypoint"]), ["haproxy"]);
    assert_eq!(texts(&services["haproxy"]["command"]), haproxy_arguments("/deploy/haproxy.cfg"));
}

#[test]
fn images_have_the_versions_that_the_tests_run() {
    let services = services();
    let tag = |service: &str| {
        let image = services[service]["image"].as_str().expect("an image");
        image.rsplit_once(':').expect("a tag").1.to_owned()
    };
    let jars = read("scripts/kafka.jars");
    let broker = jars.lines().find_map(|line| line.strip_prefix("org.apache.kafka:kafka_2.13:"));
    assert_eq!(Some(tag("kafka-1").as_str()), broker.and_then(|rest| rest.split(' ').next()));
    assert!(read("scripts/s3-server").contains(&format!("\nversion={}\n", tag("store"))));
    let target = tag("target");
    let major = target.split('.').next().expect("a version");
    assert!(read("scripts/setup").contains(&format!("missing+=(postgresql-{major})")), "{target}");
    let cargo = toml_file("Cargo.toml");
    let version = cargo["workspace"]["package"]["version"].as_str().expect("a version");
    assert_eq!(tag("proxy"), version);
    let chart = read("deploy/helm/Chart.yaml");
    assert!(chart.contains(&format!("\nversion: {version}\nappVersion: \"{version}\"\n")), "{chart}");
    assert!(read("deploy/helm/values.yaml").contains(&format!("\nimage: retrace:{version}\n")), "{version}");
    let toolchain = toml_file("rust-toolchain.toml");
    let channel = toolchain["toolchain"]["channel"].as_str().expect("a channel");
    assert!(read("Dockerfile").contains(&format!("\nARG RUST={channel}\n")), "the pinned toolchain");
}

#[test]
fn an_image_is_built_from_every_crate_and_from_nothing_else() {
    let cargo = toml_file("Cargo.toml");
    let members = cargo["workspace"]["members"].as_array().expect("members").iter();
    let folders = members.map(|member| member.as_str().expect("a path").split('/').next().expect("a folder"));
    let mut wanted: BTreeSet<_> = folders.filter(|folder| *folder != "tests").map(str::to_owned).collect();
    let others = ["Cargo.lock", "Cargo.toml", "deploy/ready", "tests/Cargo.toml", "tests/src"];
    wanted.extend(others.map(str::to_owned));
    let ignore = read(".dockerignore");
    let lines: Vec<_> = ignore.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.first(), Some(&"*"), "nothing but what is named");
    let named: BTreeSet<_> =
        lines[1..].iter().map(|line| line.strip_prefix('!').expect("an exception").to_owned()).collect();
    assert_eq!(named, wanted);
}

#[test]
fn brokers_have_what_the_log_asks_for() {
    let text = read("deploy/kafka/server.properties");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let settings: BTreeMap<_, _> = lines.map(|line| line.split_once('=').expect("a setting")).collect();
    for (name, value) in [
        ("default.replication.factor", "3"),
        ("min.insync.replicas", "2"),
        ("offsets.topic.replication.factor", "3"),
        ("transaction.state.log.replication.factor", "3"),
        ("transaction.state.log.min.isr", "2"),
        ("unclean.leader.election.enable", "false"),
        ("auto.create.topics.enable", "false"),
        ("log.message.timestamp.type", "LogAppendTime"),
    ] {
        assert_eq!(settings.get(name), Some(&value), "{name}");
    }
    // What tests/src/kafka.rs adds for a broker, `start` adds.
    let start = read("deploy/kafka/start");
    for name in [
        "node.id",
        "controller.quorum.voters",
        "listeners",
        "advertised.listeners",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config",
        "log.dirs",
    ] {
        assert!(start.lines().any(|line| line.starts_with(&format!("{name}="))), "{name}");
    }
    let services = services();
    let brokers: Vec<_> = services.keys().filter(|name| name.starts_with("kafka-")).collect();
    assert_eq!(brokers, ["kafka-1", "kafka-2", "kafka-3"]);
    for (name, number) in brokers.iter().zip(["1", "2", "3"]) {
        let broker = &services[name.as_str()];
        assert_eq!(texts(&broker["command"]), [number]);
        assert_eq!(texts(&broker["networks"]["brokers"]["aliases"]), [format!("{name}-peer")]);
        assert!(texts(&broker["volumes"]).contains(&format!("{name}:/var/lib/kafka/data")), "{name}");
    }
    let config = toml_file("deploy/retrace.toml");
    let servers = config["log"]["kafka"]["options"]["bootstrap.servers"].as_str();
    assert_eq!(servers, Some("kafka-1:9092,kafka-2:9092,kafka-3:9092"));
}

#[test]
fn clients_come_in_at_the_load_balancer_alone_and_it_leads_to_every_door() {
    let balancer = read("deploy/haproxy.cfg");
    let health = port(["health", ""]);
    let doors =
        [("proxy", ["proxy", "postgres"]), ("query", ["query", "postgres"]), ("query", ["query", "grpc"])];
    let mut published = Vec::new();
    for (service, path) in doors {
        let port = port(path);
        let door = format!(
            "\n    bind :{port}\n    server-template {service}- 1-8 {service}:{port} check port {health} resolvers docker "
        );
        assert!(balancer.contains(&door), "{door}");
        published.push(format!("127.0.0.1:{port}:{port}"));
    }
    for (name, service) in services() {
        let expected: &[String] = if name == "haproxy" { &published } else { &[] };
        assert_eq!(texts(&service["ports"]), expected, "{name}");
    }
    assert!(read("deploy/ready").contains(&format!("/dev/tcp/127.0.0.1/{health}")));
}

#[test]
fn networks_keep_clients_targets_brokers_and_store_apart() {
    let networks = |service: &Value| match &service["networks"] {
        Value::Object(networks) => networks.keys().cloned().collect(),
        list => texts(list).into_iter().collect::<BTreeSet<_>>(),
    };
    let services = services();
    let expected = [
        ("haproxy", &["clients", "front"][..]),
        ("proxy", &["front", "log", "targets"]),
        ("ingest", &["lake", "log"]),
        ("query", &["front", "lake", "log"]),
        ("kafka-1", &["brokers", "log"]),
        ("kafka-2", &["brokers", "log"]),
        ("kafka-3", &["brokers", "log"]),
        ("store", &["lake"]),
        ("target", &["targets"]),
        ("psql", &[]),
        ("cli", &[]),
        ("init", &[]),
    ];
    let names: BTreeSet<_> = expected.iter().map(|(name, _)| *name).collect();
    assert_eq!(services.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
    for (name, expected) in expected {
        let expected: BTreeSet<_> = expected.iter().map(|network| (*network).to_owned()).collect();
        assert_eq!(networks(&services[name]), expected, "{name}");
    }
    for (name, mode) in [("init", "none"), ("psql", "service:haproxy"), ("cli", "service:haproxy")] {
        assert_eq!(services[name]["network_mode"], mode, "{name}");
    }
    for (name, network) in compose()["networks"].as_object().expect("networks") {
        assert_eq!(network["internal"] == true, name != "clients", "{name}");
    }
}

#[test]
fn containers_can_do_little() {
    let mut breaches = Vec::new();
    for (name, service) in services() {
        let user = service["user"].as_str().unwrap_or("root");
        let image = service["image"].as_str().unwrap_or_default();
        let pinned =
            image.rsplit_once(':').is_some_and(|(_, tag)| tag.contains(|c: char| c.is_ascii_digit()));
        let environment = service["environment"].as_object();
        let secret = environment
            .into_iter()
            .flatten()
            .any(|(variable, _)| ["PASSWORD", "SECRET", "TOKEN"].iter().any(|word| variable.contains(word)));
        for (holds, what) in [
            (service["read_only"] == true, "its image is not read-only"),
            (texts(&service["cap_drop"]) == ["ALL"], "it has capabilities"),
            (service.get("cap_add").is_none() && service.get("privileged").is_none(), "it asks for rights"),
            (texts(&service["security_opt"]) == ["no-new-privileges:true"], "it may get new rights"),
            (!user.starts_with("root") && !user.starts_with('0'), "it is root"),
            (service["pids_limit"].is_u64(), "its processes are not limited"),
            (service["mem_limit"].is_string(), "its memory is not limited"),
            (service["logging"].is_object(), "its log grows"),
            (service["restart"].is_string(), "nobody said whether it starts again"),
            (pinned, "its image is not one version"),
            (!secret, "its environment holds a secret"),
        ] {
            if !holds {
                breaches.push(format!("{name}: {what}"));
            }
        }
        for volume in texts(&service["volumes"]) {
            let given = volume.starts_with("for-") || volume.starts_with("./");
            if name != "init" && given && !volume.ends_with(":ro") {
                breaches.push(format!("{name}: {volume} is writable"));
            }
        }
    }
    assert_none("containers of docker-compose.yml", &breaches);
}

#[test]
fn what_is_secret_is_mounted_where_it_is_needed() {
    let mut mounted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, service) in services().iter().filter(|(name, _)| *name != "init") {
        for volume in texts(&service["volumes"]) {
            let source = volume.split(':').next().expect("a source").to_owned();
            if source.starts_with("for-") || source == "gateway" {
                mounted.entry(source).or_default().insert(name.clone());
            }
        }
    }
    let brokers = ["kafka-1", "kafka-2", "kafka-3"];
    for (volume, services) in [
        ("for-proxy", &["proxy"][..]),
        ("for-ingest", &["ingest"]),
        ("for-query", &["query"]),
        ("for-kafka", &brokers),
        ("for-store", &["store"]),
        ("for-target", &["target"]),
        ("for-client", &["psql"]),
        ("gateway", &["cli"]),
    ] {
        let services = services.iter().map(|service| (*service).to_owned()).collect();
        assert_eq!(mounted.remove(volume), Some(services), "{volume}");
    }
    assert!(mounted.is_empty(), "{mounted:?}");
    // A volume takes its owner from the folder of the image that it is mounted over first, which is `init`'s.
    let dockerfile = read("Dockerfile");
    let (_, rest) = dockerfile.split_once("for volume in ").expect("the folders are made");
    let made: BTreeSet<_> = rest.split(';').next().expect("a list").split(' ').map(str::to_owned).collect();
    let volumes = texts(&services()["init"]["volumes"]);
    let folders = volumes.iter().filter_map(|volume| volume.split_once(":/state/"));
    assert_eq!(folders.map(|(_, folder)| folder.to_owned()).collect::<BTreeSet<_>>(), made);
}

#[test]
fn a_container_is_given_the_time_that_draining_takes() {
    let drain = &toml_file("deploy/retrace.toml")["drain"];
    let ms =
        |name: &str| u64::try_from(drain[name].as_integer().expect("milliseconds")).expect("not negative");
    let least = (ms("grace_ms") + ms("wait_ms_max")).div_ceil(1000) + END_S;
    let services = services();
    for name in ROLES.into_iter().chain(["haproxy"]) {
        let given = services[name]["stop_grace_period"].as_str().and_then(|text| text.strip_suffix('s'));
        let given: u64 = given.and_then(|seconds| seconds.parse().ok()).expect("seconds");
        assert!(given >= least, "{name} is given {given} s, and may take {least}");
    }
    for pod in pods() {
        assert!(pod["terminationGracePeriodSeconds"].as_u64() >= Some(least + VAULT_END_S), "{pod}");
    }
}

/// What the manifests for Kubernetes say of pods.
fn pods() -> Vec<Value> {
    let manifests = kubernetes();
    let deployments = manifests.iter().filter(|manifest| manifest["kind"] == "Deployment");
    deployments.map(|deployment| deployment["spec"]["template"]["spec"].clone()).collect()
}

#[test]
fn pods_run_what_containers_run() {
    let services = services();
    let pods = pods();
    assert_eq!(pods.len(), ROLES.len());
    for (pod, role) in pods.iter().zip(ROLES) {
        let container = &pod["containers"][0];
        assert_eq!(texts(&container["args"]), arguments_of(role));
        assert_eq!(container["image"], services[role]["image"]);
        assert_eq!(pod["volumes"][0]["secret"]["secretName"], format!("retrace-{role}"));
        assert_eq!(container["volumeMounts"][0]["mountPath"], "/etc/retrace");
        let health: u64 = port(["health", ""]).parse().expect("a port");
        let ports = container["ports"].as_array().expect("ports");
        assert!(ports.iter().any(|it| it["name"] == "health" && it["containerPort"] == health), "{role}");
        assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
        assert_eq!(texts(&container["securityContext"]["capabilities"]["drop"]), ["ALL"]);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    }
}
