use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::DataType;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use retrace_access::Authenticated;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::Answer;
use super::cancel::Place;
use super::encode;
use super::error::Failure;
use super::message::{self, Bind, Frontend, MESSAGE_BYTES_MAX, Named, put, put_bare, put_complete};
use super::setting::{self, Setting};
use super::state::{Asks, Portal, Prepared, State};
use super::types::Wire;
use super::{decode, split};
use crate::as_of;
use crate::door::Door;
use crate::lingering::Lingering;
use crate::reader::Question;
use crate::statement::PARAMETERS_MAX;
use crate::{QueryError, Reader};

/// Prepared statements of a connection, and the bytes of all their texts.
const PREPARED_STATEMENTS_MAX: usize = 256;
const PREPARED_BYTES_MAX: usize = 1024 * 1024;

/// Open portals of a connection. Each that runs takes one of the places that queries have.
const PORTALS_MAX: usize = 16;

/// Statements in one simple query.
const STATEMENTS_MAX: usize = 32;

/// How much is gathered before it is written, in bytes.
const WRITE_BYTES: usize = 64 * 1024;

/// How long a connection may say nothing before it is closed.
const IDLE_MAX: Duration = Duration::from_secs(60 * 60);

/// How long a message that has begun may take to arrive, and what is not rows to be taken.
const MESSAGE_WAIT_MAX: Duration = Duration::from_secs(30);

/// One client that is logged in: its statements and portals, and nobody else's.
pub(super) struct Connection<S> {
    pub(super) stream: BufReader<S>,
    pub(super) reader: Reader,
    pub(super) who: Authenticated,
    pub(super) door: Arc<Door>,
    pub(super) application_name: String,
    pub(super) place: Place,
    pub(super) is_draining: watch::Receiver<bool>,
    pub(super) is_stopping: watch::Receiver<bool>,
    pub(super) state: State,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Greets the client and answers it until it goes, fails or is told to.
    pub(super) async fn run(mut self) {
        if let Err(failure) = self.serve().await
            && !failure.is_gone
        {
            message::put_error(&mut self.state.out, &failure);
            let deadline = Instant::now() + MESSAGE_WAIT_MAX;
            // Whether it takes it or not, that was the last word.
            if self.flush(deadline).await.is_ok() {
                let _ = timeout_at(deadline, Lingering::new(self.stream).shutdown()).await;
            }
        }
    }

    async fn serve(&mut self) -> Result<(), Failure> {
        self.greet();
        loop {
            // What waits in the buffer was sent without waiting for an answer, and needs none of its own yet.
            if self.stream.buffer().is_empty() {
                self.flush(Instant::now() + MESSAGE_WAIT_MAX).await?;
            }
            let Some((kind, body)) = self.read().await? else { return Ok(()) };
            match message::parse(kind, body)? {
                Frontend::Terminate => return Ok(()),
                message => self.handle(message).await?,
            }
        }
    }

    fn greet(&mut self) {
        let out = &mut self.state.out;
        put(out, b'R', |out| out.put_u32(0));
        for (name, value) in setting::REPORTED {
            message::put_setting(out, name, value);
        }
        message::put_setting(out, "application_name", &self.application_name);
        message::put_setting(out, "session_authorization", &self.who.principal.name);
        put(out, b'K', |out| {
            out.put_u32(self.place.process_id);
            out.put_slice(&self.place.key);
        });
        message::put_ready(out, false);
    }

    async fn read(&mut self) -> Result<Option<(u8, Bytes)>, Failure> {
        use tokio::io::AsyncBufReadExt;
        let mut is_draining = self.is_draining.clone();
        tokio::select! {
            biased;
            begun = timeout(IDLE_MAX, self.stream.fill_buf()) => match begun {
                Ok(begun) => drop(begun?),
                Err(_elapsed) => {
                    let problem = "terminating connection due to idle-session timeout".to_owned();
                    return Err(Failure::fatal("57P05", problem));
                }
            },
            // What was sent before is answered.
            _ = is_draining.wait_for(|is_draining| *is_draining) => return Err(Failure::stopping()),
        }
        let read = timeout(MESSAGE_WAIT_MAX, message::read(&mut self.stream, MESSAGE_BYTES_MAX)).await;
        read.unwrap_or_else(|_elapsed| {
            Err(Failure::fatal("08006", "a message took too long to arrive".into()))
        })
    }

    async fn flush(&mut self, deadline: Instant) -> Result<(), Failure> {
        let out = &mut self.state.out;
        let write = async {
            while out.has_remaining() {
                self.stream.write_buf(out).await?;
            }
            self.stream.flush().await
        };
        timeout_at(deadline, write).await.map_err(|_elapsed| Failure::gone())??;
        // What a large answer took is given back.
        if self.state.out.capacity() > 2 * WRITE_BYTES {
            self.state.out = BytesMut::new();
        }
        Ok(())
    }

    async fn handle(&mut self, message: Frontend) -> Result<(), Failure> {
        match message {
            Frontend::Query { text } => {
                self.state.skips = false;
                let asked = self.simple(&text).await;
                self.tell(asked)?;
                self.end_of_exchange();
                return Ok(());
            }
            Frontend::Sync => {
                self.state.skips = false;
                self.end_of_exchange();
                return Ok(());
            }
            _ if self.state.skips => return Ok(()),
            _ => {}
        }
        let handled = match message {
            Frontend::Parse { name, text, type_oids } => self.parse(name, text, &type_oids).await,
            Frontend::Bind(bind) => self.bind(bind),
            Frontend::Describe(named) => self.describe(&named),
            Frontend::Execute { portal, rows_max } => self.execute(&portal, rows_max).await,
            Frontend::Close(named) => {
                self.close(&named);
                Ok(())
            }
            Frontend::Flush => self.flush(Instant::now() + MESSAGE_WAIT_MAX).await,
            Frontend::Copy | Frontend::Query { .. } | Frontend::Sync | Frontend::Terminate => Ok(()),
        };
        self.state.skips = handled.is_err();
        self.tell(handled)
    }

    /// Tells the client of a failure that does not end the connection.
    fn tell(&mut self, handled: Result<(), Failure>) -> Result<(), Failure> {
        match handled {
            Err(failure) if failure.is_fatal => Err(failure),
            Err(failure) => {
                message::put_error(&mut self.state.out, &failure);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn end_of_exchange(&mut self) {
        let state = &mut self.state;
        if !state.in_transaction {
            state.portals.clear();
        }
        message::put_ready(&mut state.out, state.in_transaction);
    }

    async fn simple(&mut self, text: &str) -> Result<(), Failure> {
        let statements = split::statements(text);
        if statements.is_empty() {
            put_bare(&mut self.state.out, b'I');
            return Ok(());
        }
        if statements.len() > STATEMENTS_MAX {
            return Err(Failure::new("54000", format!("one query has at most {STATEMENTS_MAX} statements")));
        }
        self.state.portals.remove("");
        for statement in statements {
            match setting::parse(statement) {
                Some(setting) => self.setting(setting?, true)?,
                None => {
                    let question = Question { statement, parameters: Vec::new() };
                    let mut answer = self.ask(question, &[]).await?;
                    answer.put_description(&mut self.state.out);
                    self.send_rows(&mut answer, 0).await?;
                    put_complete(&mut self.state.out, &answer.tag());
                }
            }
        }
        Ok(())
    }

    /// Answers what is about the connection.
    fn setting(&mut self, setting: Setting, with_description: bool) -> Result<(), Failure> {
        let state = &mut self.state;
        let tag = match setting {
            Setting::Nothing(tag) => tag,
            Setting::Begin => {
                state.in_transaction = true;
                "BEGIN"
            }
            Setting::End(tag) => {
                state.in_transaction = false;
                state.portals.clear();
                tag
            }
            Setting::Forget(tag) => {
                state.prepared.clear();
                state.portals.clear();
                tag
            }
            Setting::Deallocate(name) => {
                state.prepared.remove(&name);
                "DEALLOCATE"
            }
            Setting::Show(name) => {
                let batch = setting::show(&name, &self.application_name)?;
                let columns = encode::columns(&batch.schema(), &[]);
                if with_description {
                    encode::put_description(&mut state.out, &batch.schema(), &columns);
                }
                let mut rows = encode::Rows::new(&batch, &columns).map_err(QueryError::encoding)?;
                while rows.put_next(&mut state.out) {}
                "SHOW"
            }
        };
        put_complete(&mut state.out, tag);
        Ok(())
    }

    async fn parse(&mut self, name: String, text: String, type_oids: &[u32]) -> Result<(), Failure> {
        if !name.is_empty() && self.state.prepared.contains_key(&name) {
            return Err(Failure::new("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        let others = self.state.prepared.iter().filter(|(known, _)| **known != name);
        let bytes: usize = others.map(|(_, prepared)| prepared.text.len()).sum();
        if self.state.prepared.len() >= PREPARED_STATEMENTS_MAX || bytes + text.len() > PREPARED_BYTES_MAX {
            let problem = format!(
                "a connection has at most {PREPARED_STATEMENTS_MAX} prepared statements of {PREPARED_BYTES_MAX} bytes together"
            );
            return Err(
                Failure::new("54000", problem).hinting("DEALLOCATE ALL, or close those no longer needed.")
            );
        }
        let prepared = self.prepare(text, type_oids).await?;
        self.state.prepared.insert(name, Arc::new(prepared));
        put_bare(&mut self.state.out, b'1');
        Ok(())
    }

    async fn prepare(&mut self, text: String, type_oids: &[u32]) -> Result<Prepared, Failure> {
        let nothing = |text, asks, schema| Prepared { text, asks, parameters: Vec::new(), schema };
        match split::statements(&text).as_slice() {
            [] => return Ok(nothing(text, Asks::Nothing, None)),
            [_] => {}
            _ => {
                let problem = "cannot insert multiple commands into a prepared statement".to_owned();
                return Err(Failure::new("42601", problem));
            }
        }
        if let Some(setting) = setting::parse(&text) {
            let schema = match setting? {
                Setting::Show(name) => Some(setting::show(&name, &self.application_name)?.schema()),
                _ => None,
            };
            return Ok(nothing(text, Asks::Setting, schema));
        }
        if type_oids.len() > PARAMETERS_MAX {
            return Err(Failure::new(
                "54000",
                format!("a statement has at most {PARAMETERS_MAX} parameters"),
            ));
        }
        let declared = type_oids.iter().zip(1..).map(|(oid, number)| declared(*oid, number));
        let declared = declared.collect::<Result<Vec<_>, _>>()?;
        self.look_again()?;
        self.place.requests.borrow_and_update();
        let describe = self.reader.describe(&self.who, &text, declared);
        let description = interruptible(&mut self.place, &mut self.is_stopping, describe).await?;
        let parameters =
            description.parameters.iter().map(|it| it.as_ref().map_or(Wire::Text, Wire::of)).collect();
        Ok(Prepared { text, asks: Asks::Evidence, parameters, schema: Some(description.schema) })
    }

    fn bind(&mut self, bind: Bind) -> Result<(), Failure> {
        let statement = self.statement(&bind.statement)?;
        let expected = statement.parameters.len();
        if bind.values.len() != expected {
            let problem =
                format!("bind message supplies {} parameters, but {expected} are needed", bind.values.len());
            return Err(Failure::new("08P01", problem));
        }
        let is_binary = |index: usize| {
            let one = bind.formats.first().filter(|_| bind.formats.len() == 1);
            one.or(bind.formats.get(index)) == Some(&1)
        };
        let values = statement.parameters.iter().zip(&bind.values).enumerate();
        let values = values.map(|(index, (wire, value))| {
            decode::parameter(index + 1, *wire, is_binary(index), value.as_ref())
        });
        let parameters = values.collect::<Result<_, _>>()?;
        if self.state.portals.len() >= PORTALS_MAX && !self.state.portals.contains_key(&bind.portal) {
            return Err(Failure::new(
                "54000",
                format!("a connection has at most {PORTALS_MAX} open portals"),
            ));
        }
        let portal = Portal { statement, parameters, formats: bind.result_formats, answer: None };
        self.state.portals.insert(bind.portal, portal);
        put_bare(&mut self.state.out, b'2');
        Ok(())
    }

    fn statement(&self, name: &str) -> Result<Arc<Prepared>, Failure> {
        let known = self.state.prepared.get(name).cloned();
        known.ok_or_else(|| Failure::new("26000", format!("prepared statement \"{name}\" does not exist")))
    }

    fn describe(&mut self, named: &Named) -> Result<(), Failure> {
        let (statement, formats) = match named {
            Named::Statement(name) => (self.statement(name)?, Vec::new()),
            Named::Portal(name) => {
                let portal = self.state.portals.get(name).ok_or_else(|| no_portal(name))?;
                (Arc::clone(&portal.statement), portal.formats.clone())
            }
        };
        let out = &mut self.state.out;
        if matches!(named, Named::Statement(_)) {
            put(out, b't', |out| {
                out.put_u16(u16::try_from(statement.parameters.len()).expect("they have a limit"));
                statement.parameters.iter().for_each(|wire| out.put_u32(wire.oid()));
            });
        }
        match &statement.schema {
            Some(schema) => {
                let columns = encode::columns(schema, &formats);
                encode::put_description(out, schema, &columns);
            }
            None => put_bare(out, b'n'),
        }
        Ok(())
    }

    async fn execute(&mut self, name: &str, rows_max: u32) -> Result<(), Failure> {
        // It is taken out while it runs, and put back only if rows are left.
        let mut portal = self.state.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let statement = Arc::clone(&portal.statement);
        match statement.asks {
            Asks::Nothing => {
                put_bare(&mut self.state.out, b'I');
                return Ok(());
            }
            Asks::Setting => {
                let setting = setting::parse(&statement.text);
                return self.setting(setting.expect("it was one at Parse")?, false);
            }
            Asks::Evidence => {}
        }
        let mut answer = match portal.answer.take() {
            Some(answer) => answer,
            None => {
                let parameters = std::mem::take(&mut portal.parameters);
                let question = Question { statement: &statement.text, parameters };
                let answer = self.ask(question, &portal.formats).await?;
                let described = statement.schema.as_ref().map(|it| encode::columns(it, &portal.formats));
                if described.as_deref() != Some(answer.columns()) {
                    let problem = "the columns are of other types than was described".to_owned();
                    return Err(Failure::new("0A000", problem).hinting("Prepare the statement again."));
                }
                answer
            }
        };
        if self.send_rows(&mut answer, rows_max).await? {
            put_complete(&mut self.state.out, &answer.tag());
        } else {
            portal.answer = Some(answer);
            self.state.portals.insert(name.to_owned(), portal);
            put_bare(&mut self.state.out, b's');
        }
        Ok(())
    }

    fn close(&mut self, named: &Named) {
        match named {
            Named::Statement(name) => drop(self.state.prepared.remove(name)),
            Named::Portal(name) => drop(self.state.portals.remove(name)),
        }
        put_bare(&mut self.state.out, b'3');
    }

    /// Whether the client may still read, and with which rights, is found out for each statement anew. One that may not is
    /// let go of.
    fn look_again(&mut self) -> Result<(), Failure> {
        self.who = self.door.still(&self.who).map_err(|error| match Failure::from(error) {
            failure if failure.sqlstate == "28000" => Failure { is_fatal: true, ..failure },
            failure => failure,
        })?;
        Ok(())
    }

    /// Asks the evidence. The read is recorded, durably, when this returns.
    async fn ask(&mut self, question: Question<'_>, formats: &[u16]) -> Result<Answer, Failure> {
        self.look_again()?;
        self.place.requests.borrow_and_update();
        let deadline = Instant::now() + self.reader.query_time_max();
        let statement = question.statement;
        let ask = self.reader.ask(&self.who, question);
        let answer = interruptible(&mut self.place, &mut self.is_stopping, ask).await?;
        // Whether it asks for the past takes another look at all of its text, and matters only where something is gone.
        if let Some(removed) = &answer.removed
            && as_of::is_asked(statement)
        {
            message::put_notice(&mut self.state.out, &removed.to_string());
        }
        Ok(Answer::new(answer, formats, deadline))
    }

    /// Sends so many rows, or all for 0; gives whether these were the last. A client that takes them slowly holds up
    /// the query that makes them, and nothing is gathered for it beyond one write.
    async fn send_rows(&mut self, answer: &mut Answer, rows_max: u32) -> Result<bool, Failure> {
        self.place.requests.borrow_and_update();
        let mut sent = 0;
        loop {
            while answer.put_next(&mut self.state.out) {
                sent += 1;
                if self.state.out.len() >= WRITE_BYTES {
                    self.flush(answer.deadline()).await?;
                }
                if sent == rows_max {
                    return Ok(false);
                }
            }
            let next = answer.next_batch();
            if !interruptible(&mut self.place, &mut self.is_stopping, next).await? {
                return Ok(true);
            }
        }
    }
}

/// The type that a client declares for a parameter; none if it leaves that to the server.
fn declared(oid: u32, number: usize) -> Result<Option<DataType>, Failure> {
    match oid {
        // Not said, or said to be unknown.
        0 | 705 => Ok(None),
        oid => Wire::of_oid(oid).map(|wire| Some(wire.parameter_type())).ok_or_else(|| {
            Failure::new(
                "0A000",
                format!("parameter ${number} has a type (object id {oid}) that is not known here"),
            )
        }),
    }
}

fn no_portal(name: &str) -> Failure {
    Failure::new("34000", format!("portal \"{name}\" does not exist"))
}

/// Waits for `work` until the client cancels it or the server stops.
async fn interruptible<T>(
    place: &mut Place,
    is_stopping: &mut watch::Receiver<bool>,
    work: impl Future<Output = Result<T, QueryError>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        _ = is_stopping.wait_for(|is_stopping| *is_stopping) => Err(Failure::stopping()),
        Ok(()) = place.requests.changed() => Err(Failure::cancelled()),
        done = work => Ok(done?),
    }
}
