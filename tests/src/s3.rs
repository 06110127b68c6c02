//! The lake's store: a real S3 server, on a folder.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::leash::{Ending, Leash};
use crate::{cache, port, run, wait_for};

/// Who may use it.
pub const S3_ACCESS_KEY: &str = "scratch-access-key";

/// Their secret, odd enough to be looked for in everything that is written.
pub const S3_SECRET_KEY: &str = "n0body-may-see-th1s-s3-secret";

/// The one bucket it has.
const BUCKET: &str = "lake";

/// How long starting it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server (Versity's gateway: it refuses to put what exists, and what it acknowledged outlives it) on 127.0.0.1, with a
/// bucket. It and its folder go when this is dropped or the process ends, whichever way.
#[derive(Debug)]
pub struct S3 {
    port: u16,
    /// Where it keeps each object as a file.
    buckets: PathBuf,
    leash: Leash,
}

impl S3 {
    /// The server that all tests of a process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<S3> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server.
    #[must_use]
    pub fn start() -> Self {
        let folder =
            tempfile::Builder::new().prefix("retrace-s3-").tempdir().expect("a temporary folder").keep();
        let (buckets, accounts) = (folder.join("buckets"), folder.join("accounts"));
        for made in [&buckets.join(BUCKET), &accounts] {
            fs::create_dir_all(made).expect("the folder is writable");
        }
        let port = port::free();
        let mut arguments = vec![
            format!("ROOT_ACCESS_KEY={S3_ACCESS_KEY}"),
            format!("ROOT_SECRET_KEY={S3_SECRET_KEY}"),
            program().display().to_string(),
        ];
        let [accounts, folder_of_buckets] = [&accounts, &buckets].map(|folder| folder.display().to_string());
        arguments.extend(s3_arguments(&format!("127.0.0.1:{port}"), &accounts, &folder_of_buckets));
        let leash = Leash::start(&folder, Path::new("env"), &arguments, None, Ending::Killed)
            .expect("the keeper starts");
        let s3 = Self { port, buckets, leash };
        wait_for("the S3 server serves", PATIENCE, || s3.is_healthy().then_some(()));
        s3
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.leash.pid()
    }

    /// Where it is.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A place in its bucket that no other test of this process has.
    #[must_use]
    pub fn url(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("s3://{BUCKET}/table-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The objects under an `s3://` address, each a file.
    ///
    /// # Panics
    /// If the address is not one of this server's.
    #[must_use]
    pub fn objects(&self, url: &str) -> PathBuf {
        self.buckets.join(url.strip_prefix("s3://").expect("an address of this server"))
    }

    /// Puts a file there, under an `s3://` address, as any client does.
    ///
    /// # Panics
    /// If the address is not one of this server's, or the file is not taken.
    #[track_caller]
    pub fn put(&self, file: &Path, url: &str) {
        let key = url.strip_prefix("s3://").expect("an address of this server");
        let mut curl = Command::new("curl");
        curl.args(["-fsS", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user"]);
        curl.arg(format!("{S3_ACCESS_KEY}:{S3_SECRET_KEY}"));
        // The server does not take what curl says of the content else.
        curl.args(["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-T"]).arg(file);
        curl.arg(format!("{}/{}", self.endpoint(), key.replace('=', "%3D")));
        let _ = run(curl, b"", PATIENCE).expect_ok();
    }

    /// How the store is reached there, by the names of the options.
    #[must_use]
    pub fn options(&self) -> [(&'static str, String); 5] {
        [
            ("aws_endpoint", self.endpoint()),
            ("aws_region", "us-east-1".to_owned()),
            ("aws_allow_http", "true".to_owned()),
            ("aws_access_key_id", S3_ACCESS_KEY.to_owned()),
            ("aws_secret_access_key", S3_SECRET_KEY.to_owned()),
        ]
    }

    fn is_healthy(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut said = String::new();
        stream.write_all(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n").is_ok()
            && stream.read_to_string(&mut said).is_ok()
            && said.lines().next().is_some_and(|line| line.contains(" 200"))
    }
}

/// How a server is started: where it listens, and where accounts and buckets are.
#[must_use]
pub fn s3_arguments(listen: &str, accounts: &str, buckets: &str) -> [String; 10] {
    [
        "--port",
        listen,
        "--quiet",
        "--keep-alive",
        "--health",
        "/health",
        "--iam-dir",
        accounts,
        "posix",
        buckets,
    ]
    .map(str::to_owned)
}

fn program() -> PathBuf {
    let program = cache("RETRACE_S3", "s3").join("bin/versitygw");
    assert!(program.exists(), "{} is not there; run `make test`", program.display());
    program
}
