//! Generates the committed code from the `.proto` files and fails where the two have drifted apart.
//! After an edit of a `.proto` file: `make proto`, which runs this with `RETRACE_BLESS=1`.

use std::path::{Path, PathBuf};

use prost_build::Config;

fn root(path: &str) -> PathBuf {
    // Where the test runs, not where it was built: two checkouts may share their build output.
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    Path::new(&here).join("..").join(path)
}

/// Makes `committed` hold what `generated` holds, or fails naming the difference.
fn check(generated: &Path, committed: &Path) {
    let generated = std::fs::read_to_string(generated).expect("the generator wrote its file");
    if std::env::var_os("RETRACE_BLESS").is_some() {
        std::fs::write(committed, generated).expect("the committed file is writable");
        return;
    }
    let committed_text = std::fs::read_to_string(committed).unwrap_or_default();
    assert!(
        committed_text == generated,
        "{} is not what its .proto file generates; run `make proto` and commit the result",
        committed.display()
    );
}

#[test]
fn generated_code_is_what_the_proto_files_say() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let include = root("proto/proto");

    let events = protox::compile(["retrace/event/v1/event.proto"], [&include]).expect("event.proto compiles");
    Config::new().bytes(["."]).out_dir(out.path()).compile_fds(events).expect("event.proto generates");
    check(&out.path().join("retrace.event.v1.rs"), &root("proto/src/gen/retrace.event.v1.rs"));

    let query = protox::compile(["retrace/query/v1/query.proto"], [&include]).expect("query.proto compiles");
    tonic_prost_build::configure()
        .bytes(".")
        .out_dir(out.path())
        .compile_fds(query)
        .expect("query.proto generates");
    check(&out.path().join("retrace.query.v1.rs"), &root("query/src/gen/retrace.query.v1.rs"));
}
