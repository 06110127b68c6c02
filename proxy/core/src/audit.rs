use retrace_proto::{Envelope, Event, Hash, Id, SealError, StreamWriter, Subject};

use crate::Now;

/// The session's stream: it seals events in order. What it has sealed must be appended to the log in the same order.
#[derive(Debug)]
pub(crate) struct Audit {
    stream: StreamWriter,
    subject: Subject,
}

impl Audit {
    pub(crate) fn new(stream: StreamWriter, subject: Subject) -> Self {
        Self { stream, subject }
    }

    /// Every event sealed so far has a sequence number below this.
    pub(crate) fn end(&self) -> u64 {
        self.stream.next_seq()
    }

    /// The stream's id.
    pub(crate) fn stream_id(&self) -> Id {
        self.stream.stream_id()
    }

    /// The hash of what was sealed last.
    pub(crate) fn last_hash(&self) -> Option<Hash> {
        self.stream.prev_hash()
    }

    /// Whom the stream is about.
    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Goes on with another stream, which is another session on the same connection. Returns the id of the session before.
    pub(crate) fn go_on(&mut self, stream: StreamWriter) -> Id {
        let next = stream.stream_id();
        self.stream = stream;
        self.subject.session_id.replace(next).expect("the subject of a session names it")
    }

    pub(crate) fn seal(
        &mut self,
        now: Now,
        command_seq: Option<u64>,
        event: Event,
    ) -> Result<Envelope, SealError> {
        Envelope::seal(&mut self.stream, &self.subject, command_seq, now.unix_us, event)
    }
}
