//! What those who run a process are told: whether it lives, whether it is ready, what it counted.

use retrace_tests::{Gate, Postgres, wait_for};

use crate::common::PATIENCE;

#[test]
fn a_gate_lives_is_ready_and_counts_what_the_evidence_has() {
    let mut gate = Gate::new(Postgres::shared().database());
    let health = gate.tell_health();
    gate.up();
    health.wait_until_ready();
    assert_eq!(health.ask("GET /healthz"), (200, "alive\n".to_owned()));
    assert_eq!(health.ask("GET /readyz"), (200, "ready\n".to_owned()));
    assert_eq!(health.ask("GET /elsewhere").0, 404);
    assert_eq!(health.ask("POST /metrics").0, 405);

    let script: String =
        (0..20).map(|number| format!("SELECT {number}, 'canary.{number}@example.com';\n")).collect();
    let _ = gate.psql(&script).expect_ok();
    let _ = gate.psql("COPY (SELECT 1) TO PROGRAM 'true';\n");
    let mut stranger = gate.psql_command_as("dev", "rt_wrong_token");
    stranger.args(["-c", "SELECT 1"]);
    let _ = retrace_tests::run(stranger, b"", PATIENCE).expect_failure();

    let count = |condition: &str| {
        gate.number(&format!("SELECT count(*) AS n FROM commands WHERE target = 'shop' AND {condition}"))
    };
    let (forwarded, refused) = (count("status = 'ok'"), count("status = 'refused'"));
    assert!(forwarded >= 20 && refused == 1, "{forwarded} forwarded, {refused} refused");
    let counted = |name: &str, expected: u64| {
        wait_for(name, PATIENCE, || {
            #[allow(clippy::cast_precision_loss, reason = "small counts")]
            (health.metric(name) == expected as f64).then_some(())
        });
    };
    counted("retrace_commands_total{target=\"shop\",outcome=\"forwarded\"}", forwarded);
    counted("retrace_command_wait_seconds_count{durability=\"exchange\"}", forwarded);
    counted("retrace_commands_total{target=\"shop\",outcome=\"denied\"}", refused);
    counted("retrace_sessions_opened_total{target=\"shop\"}", 2);
    counted("retrace_sessions_closed_total{reason=\"client_closed\"}", 2);
    counted("retrace_sessions_open", 0);
    counted("retrace_logins_refused_total{reason=\"credential\"}", 1);
    // Once in each statement, once in each row.
    counted("retrace_masked_values_total{kind=\"email\"}", 40);
    counted("retrace_query_reads_total{door=\"grpc\",status=\"ok\"}", 2);
    let in_table = |name: &str| wait_for(name, PATIENCE, || (health.metric(name) > 0.0).then_some(()));
    in_table("retrace_ingest_rows_total");
    in_table("retrace_ingest_commit_seconds_count");
    in_table("retrace_log_append_seconds_count");
    in_table("retrace_control_lag_seconds");
    let text = health.ask("GET /metrics").1;
    for value in ["canary", "example.com", "SELECT", "rt_wrong"] {
        assert!(!text.contains(value), "{value} is in the metrics");
    }
    assert!(text.contains("retrace_build_info{version=") && text.ends_with("# EOF\n"), "{text}");
    assert!(gate.stop().success());
}

#[test]
fn an_address_that_another_listener_has_is_refused_by_name() {
    let gate = Gate::new(Postgres::shared().database());
    let taken = format!("127.0.0.1:{}", gate.port());
    gate.edit(|config| {
        let mut health = toml::Table::new();
        health.insert("listen".to_owned(), taken.into());
        config.insert("health".to_owned(), health.into());
    });
    let said = gate.retrace(&["check"]).expect_failure();
    assert!(said.contains("health: listen: the gate listens at this address already"), "{said}");
}
