//! `make cluster`: three brokers and an S3 server to try services on by hand, until Ctrl-C. They and what they hold end with
//! it.

#![allow(clippy::print_stdout, reason = "what to copy is printed")]

use retrace_tests::{Kafka, S3};

fn main() {
    println!("Starting three brokers and an S3 server …");
    let (kafka, s3) = (Kafka::start(3), S3::start());
    println!("\nPut this into retrace.toml, in the place of [log] and [lake]:\n");
    println!("[log.kafka]\ntopic_prefix = \"retrace\"\n");
    println!("[log.kafka.options]\n\"bootstrap.servers\" = \"{}\"\n", kafka.servers());
    println!("[lake]\nurl = \"{}\"\n", s3.url());
    println!("[lake.options]");
    for (name, value) in s3.options() {
        println!("{name} = \"{value}\"");
    }
    println!(
        "\nThen start `retrace proxy`, `retrace ingest` and `retrace query` with --config. Ctrl-C ends it all."
    );
    let signals = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // An error is a reason to end as well.
    let _ = signals.block_on(tokio::signal::ctrl_c());
    drop((kafka, s3));
    println!("\nEverything has ended.");
}
