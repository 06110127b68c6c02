//! What can happen between a client and its store: a forwarder before the S3 server that fails on demand.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::{S3, port};

/// How long either side may keep the forwarder waiting.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What a store answers that is asked too much.
const UNAVAILABLE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What befalls requests while it is armed.
#[derive(Clone, Copy, Debug)]
pub enum S3Fault {
    /// The connection is cut before the request is read.
    Refuse,
    /// The answer is 503, and nothing was done.
    Fail,
    /// The request is done and the answer late.
    Slow(Duration),
    /// The first put of each object is done, and in the place of its answer the connection is cut. Only puts of commits
    /// are counted.
    CutAfterPut,
}

/// How many requests a fault befell so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Struck {
    /// Connections that were cut before the request.
    pub refused: u64,
    /// Requests answered with 503.
    pub failed: u64,
    /// Answers that were late.
    pub slowed: u64,
    /// Puts that were done and not answered.
    pub cut: u64,
    /// Those of them that commit to a table, on the condition that nobody did.
    pub commits_cut: u64,
}

/// The forwarder. Requests are passed on as they are: their signature covers the host that the client asked. It ends
/// when this is dropped.
#[derive(Debug)]
pub struct S3Faults {
    s3: &'static S3,
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: u16,
    state: Mutex<State>,
    stops: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    armed: Option<(S3Fault, u64)>,
    struck: Struck,
    commits: u64,
    /// Objects whose put was cut already.
    cut: BTreeSet<String>,
}

impl S3Faults {
    /// Stands before a server, and lets everything pass.
    #[must_use]
    pub fn before(s3: &'static S3) -> Self {
        let port = port::free();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let state = Mutex::new(State::default());
        let shared = Arc::new(Shared { server: s3.port(), state, stops: AtomicBool::new(false) });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Self { s3, port, shared }
    }

    /// The server behind it.
    #[must_use]
    pub fn s3(&self) -> &'static S3 {
        self.s3
    }

    /// Where it is.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Lets the fault befall the next `count` requests that it can befall.
    pub fn arm(&self, fault: S3Fault, count: u64) {
        self.shared.state().armed = Some((fault, count));
    }

    /// Whether the fault that was armed last has struck as often as it was told to.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.state().armed.is_none()
    }

    /// How many commits to tables the server made so far, told or not.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.shared.state().commits
    }

    /// How often faults struck so far.
    #[must_use]
    pub fn struck(&self) -> Struck {
        self.shared.state().struck
    }
}

impl Drop for S3Faults {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refuses(&mut self) -> bool {
        let refuses = matches!(self.armed, Some((S3Fault::Refuse, _)));
        if refuses {
            self.strike(|struck| struck.refused += 1);
        }
        refuses
    }

    /// What befalls a request that was read. Whether it is cut off is known when it is done.
    fn befalls(&mut self) -> Option<S3Fault> {
        let (fault, _) = self.armed?;
        match fault {
            S3Fault::Fail => self.strike(|struck| struck.failed += 1),
            S3Fault::Slow(_) => self.strike(|struck| struck.slowed += 1),
            // It was armed after the connection came.
            S3Fault::Refuse => return None,
            S3Fault::CutAfterPut => {}
        }
        Some(fault)
    }

    /// Counts a strike of the armed fault.
    fn strike(&mut self, count: impl FnOnce(&mut Struck)) {
        count(&mut self.struck);
        if let Some((fault, left)) = self.armed.take()
            && left > 1
        {
            self.armed = Some((fault, left - 1));
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stops.load(Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(shared);
        // A connection that breaks is its client's business.
        thread::spawn(move || client.and_then(|client| forward(&client, &shared)));
    }
}

/// One request and its answer; the connection is not used for another one.
fn forward(mut client: &TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    if shared.state().refuses() {
        // What is closed unread is reset.
        thread::sleep(Duration::from_millis(5));
        return Ok(());
    }
    let Some(request) = Request::read(client)? else { return Ok(()) };
    let fault = shared.state().befalls();
    if let Some(S3Fault::Fail) = fault {
        return client.write_all(UNAVAILABLE);
    }
    let answer = request.ask(shared.server)?;
    if request.is_conditional_commit() && answer.starts_with(b"HTTP/1.1 200") {
        shared.state().commits += 1;
    }
    match fault {
        Some(S3Fault::Slow(delay)) => thread::sleep(delay),
        Some(S3Fault::CutAfterPut) if request.is_put() => {
            let mut state = shared.state();
            let is_commit = request.is_conditional_commit();
            if state.cut.insert(request.object()) {
                if is_commit {
                    state.strike(|struck| {
                        (struck.cut, struck.commits_cut) = (struck.cut + 1, struck.commits_cut + 1)
                    });
                } else {
                    state.struck.cut += 1;
                }
                return client.shutdown(Shutdown::Both);
            }
        }
        _ => {}
    }
    client.write_all(&answer)
}

/// A request as it came.
struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// Reads one whole; `None` if the client closed first.
    fn read(mut client: &TcpStream) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let mut piece = [0; 16 * 1024];
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let read = client.read(&mut piece)?;
            if read == 0 || bytes.len() > HEAD_BYTES_MAX {
                return Ok(None);
            }
            bytes.extend(&piece[..read]);
        };
        let mut body = bytes.split_off(end);
        let request = Self { head: String::from_utf8(bytes).map_err(io::Error::other)?, body: Vec::new() };
        let length = request.header("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        let rest = length - body.len() as u64;
        client.take(rest).read_to_end(&mut body)?;
        Ok(Some(Self { body, ..request }))
    }

    /// Has the server do it; gives its whole answer, after which it closes the connection.
    fn ask(&self, server: u16) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(("127.0.0.1", server))?;
        server.set_read_timeout(Some(PATIENCE))?;
        let kept = self.head.trim_end().lines().filter(|line| !named(line, "connection"));
        let head: Vec<_> = kept.chain(["Connection: close", "", ""]).collect();
        server.write_all(head.join("\r\n").as_bytes())?;
        // What refuses a request by its head may not read the body; its answer counts.
        let _ = server.write_all(&self.body);
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        Ok(answer)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| named(line, name))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }

    fn is_put(&self) -> bool {
        self.head.starts_with("PUT ")
    }

    fn object(&self) -> String {
        self.head.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// Whether it adds a version to a table's log, if that is not there.
    fn is_conditional_commit(&self) -> bool {
        let object = self.object();
        let file = object.split('?').next().and_then(|path| path.split_once("/_delta_log/"));
        self.is_put()
            && self.header("if-none-match") == Some("*")
            && file.is_some_and(|(_, name)| name.ends_with(".json") && name.starts_with('0'))
    }
}

fn named(line: &str, name: &str) -> bool {
    line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name))
}
