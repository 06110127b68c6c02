//! An input read as a script: what happens to a session, step by step.

use bytes::{BufMut, Bytes, BytesMut};

/// One step.
#[derive(Debug)]
pub(crate) enum Step {
    /// Bytes of the client, whatever they are.
    Client(Bytes),
    /// Bytes of the target.
    Target(Bytes),
    /// Some of what was appended is durable.
    Durable {
        /// How many more events.
        events: usize,
    },
    /// The deadline that the session asked for has come.
    Deadline,
    /// Time passes.
    Later {
        /// In microseconds.
        us: u64,
    },
    /// What the session asked to find out about a statement is found out.
    Analysed,
    /// A valid cancel request.
    Cancel,
    /// The client is gone.
    ClientClosed,
    /// The target is gone.
    TargetClosed,
    /// The log failed for good.
    LogFailed,
    /// The instance stops.
    Shutdown,
    /// The instance takes nothing new.
    Drain,
    /// Whether the instance knows the latest orders.
    OrdersKnown(bool),
    /// A control record wants the session to end.
    Kill,
}

/// Reads steps until the input ends.
pub(crate) struct Script<'a> {
    rest: &'a [u8],
    text: &'a str,
}

/// Statements that a client asks, so that the fuzzer need not spell them.
const STATEMENTS: &[&str] = &[
    "SELECT 1",
    "SELECT $1",
    "BEGIN",
    "COMMIT",
    "PREPARE p AS SELECT 1",
    "DEALLOCATE ALL",
    "INSERT INTO t VALUES ('a'); SELECT 2",
    "COPY t FROM STDIN",
    "COPY t TO STDOUT",
    "",
];

const CLIENT_TAGS: &[u8] = b"QPBDECSHFXdcfp";
const TARGET_TAGS: &[u8] = b"TDCZE123tnsNASIKGHWdcvVR";

/// What the target says that must never be on record as it is.
pub(crate) const CANARY: &str = "jane.canary@example.com";

impl<'a> Script<'a> {
    pub(crate) fn new(input: &'a [u8], text: &'a str) -> Self {
        Self { rest: input, text }
    }

    pub(crate) fn next(&mut self) -> Option<Step> {
        let kind = self.byte()?;
        let argument = self.byte().unwrap_or(0);
        Some(match kind % 16 {
            0 => Step::Client(self.bytes(argument)),
            1 => Step::Target(self.bytes(argument)),
            2 => Step::Client(self.message(CLIENT_TAGS, argument)),
            3 => Step::Target(self.message(TARGET_TAGS, argument)),
            4 | 5 => Step::Client(asked(argument, self.text)),
            6 | 7 => Step::Target(said(argument, self.text)),
            8 | 9 => Step::Durable { events: usize::from(argument) },
            10 => Step::Deadline,
            11 => Step::Later { us: u64::from(argument) * 100 },
            12 if argument < 64 => Step::Cancel,
            12 => Step::Analysed,
            // Ends are rarer than what may come before them.
            13 if argument < 64 => Step::ClientClosed,
            14 if argument < 64 => Step::TargetClosed,
            15 if argument < 32 => Step::LogFailed,
            15 if argument < 64 => Step::Shutdown,
            15 if argument < 96 => Step::Kill,
            15 if argument < 160 => Step::OrdersKnown(argument % 2 == 0),
            15 if argument < 192 => Step::Drain,
            _ => Step::Durable { events: 1 },
        })
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn bytes(&mut self, count: u8) -> Bytes {
        let (taken, rest) = self.rest.split_at(usize::from(count).min(self.rest.len()));
        self.rest = rest;
        Bytes::copy_from_slice(taken)
    }

    /// A message whose length is right, whatever its body is.
    fn message(&mut self, tags: &[u8], count: u8) -> Bytes {
        let tag = self.byte().unwrap_or(0);
        let body = self.bytes(count);
        framed(tags[usize::from(tag) % tags.len()], &body)
    }
}

/// A well-formed message, or several, of a client.
fn asked(which: u8, text: &str) -> Bytes {
    let statement = STATEMENTS[usize::from(which / 16) % STATEMENTS.len()];
    let name = if which & 8 == 0 { "" } else { text };
    match which % 8 {
        0 => framed(b'Q', format!("{statement}\0").as_bytes()),
        1 => framed(b'P', format!("{name}\0{statement}\0\0\0").as_bytes()),
        2 => framed(
            b'B',
            &[format!("\0{name}\0").as_bytes(), b"\0\x01\0\x01\0\x01\0\0\0\x04\0\0\0\x07\0\x01\0\x01"]
                .concat(),
        ),
        3 => framed(b'D', format!("{}{name}\0", if which < 128 { 'S' } else { 'P' }).as_bytes()),
        4 => framed(b'E', b"\0\0\0\0\0"),
        5 => framed(b'S', b""),
        6 if which < 128 => framed(b'C', format!("S{name}\0").as_bytes()),
        6 if which < 192 => framed(b'd', b"1\tone\n"),
        6 => framed(b'c', b""),
        _ => {
            let all = [asked(1, text), asked(2, text), asked(132, text), asked(4, text), asked(5, text)];
            Bytes::from(all.concat())
        }
    }
}

/// A well-formed message, or several, of a target.
fn said(which: u8, text: &str) -> Bytes {
    let row = |value: &str| {
        let mut body = BytesMut::new();
        body.put_u16(1);
        body.put_u32(u32::try_from(value.len()).expect("short"));
        body.put_slice(value.as_bytes());
        framed(b'D', &body)
    };
    match which % 24 {
        0 => framed(b'T', b"\0\x01c\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"),
        1 => framed(b'T', b"\0\x01c\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01"),
        2 => framed(b'T', b"\0\0"),
        3 => row(CANARY),
        4 => row(text),
        5 => framed(b'D', b"\0\x01\0\0\0\x04\0\0\0\x07"),
        6 => framed(b'D', b"\0\x01\xff\xff\xff\xff"),
        7 => framed(b'C', b"SELECT 1\0"),
        8 => framed(b'Z', &[b"ITE"[usize::from(which / 24) % 3]]),
        9 => framed(b'E', format!("SERROR\0VERROR\0C22012\0M{CANARY} is wrong\0\0").as_bytes()),
        10 => framed(b'1', b""),
        11 => framed(b'2', b""),
        12 => framed(b'n', b""),
        13 => framed(b't', b"\0\x01\0\0\0\x17"),
        14 => framed(b's', b""),
        15 => framed(b'N', format!("SNOTICE\0VNOTICE\0C00000\0M{CANARY}\0\0").as_bytes()),
        16 => framed(b'A', format!("\0\0\0\x07news\0{CANARY}\0").as_bytes()),
        17 => framed(b'S', format!("application_name\0{CANARY}\0").as_bytes()),
        18 => framed(b'I', b""),
        19 => framed(b'G', b"\0\0\x01\0\0"),
        20 => framed(b'H', b"\0\0\x01\0\0"),
        21 => framed(b'd', format!("{CANARY}\n").as_bytes()),
        22 => framed(b'c', b""),
        _ => Bytes::from([said(0, text), said(3, text), said(7, text), said(8, text)].concat()),
    }
}

fn framed(tag: u8, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(body.len() + 5);
    bytes.put_u8(tag);
    bytes.put_u32(u32::try_from(body.len() + 4).expect("a script's bodies are short"));
    bytes.put_slice(body);
    bytes.freeze()
}
