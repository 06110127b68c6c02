//! What has been asked of the target and is not answered yet.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::rules::Moves;
use super::understand::{Terms, Understood};

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) name: Bytes,
    pub(super) sql: Bytes,
    pub(super) declared_type_oids: Vec<u32>,
    pub(super) understood: Understood,
    /// What the target says of its parameters, once it was asked.
    pub(super) parameter_type_oids: OnceLock<Vec<u32>>,
}

impl Statement {
    pub(super) fn parameter_type_oid(&self, index: usize) -> u32 {
        let declared = self.declared_type_oids.get(index).copied().unwrap_or(0);
        if declared != 0 {
            return declared;
        }
        self.parameter_type_oids.get().and_then(|oids| oids.get(index)).copied().unwrap_or(0)
    }
}

/// A bound portal.
#[derive(Debug)]
pub(super) struct Portal {
    pub(super) name: Bytes,
    /// `None` for a statement that was not prepared by a Parse, such as one of SQL's own PREPARE.
    pub(super) statement: Option<Arc<Statement>>,
    pub(super) statement_name: Bytes,
    /// The body of its Bind, from which parameters are recorded.
    pub(super) bind: Bytes,
}

/// Names that a statement of SQL's own gives another meaning once it ends, in order.
pub(super) type Redefined = VecDeque<Vec<u8>>;

/// How far the COPYs of a statement are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copied {
    /// Those that the target has begun.
    pub(super) begun: usize,
    /// Data of the client so far, in bytes.
    pub(super) data_bytes: u64,
    /// CommandChunk and CopyChunk events so far.
    pub(super) chunks: u32,
}

/// What is known of a statement that runs.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) redefined: Redefined,
    pub(super) terms: Arc<Terms>,
    /// What its text, its parameters and the data of its COPYs took so far.
    pub(super) copied: Copied,
    /// What it may change for the rules' view of what comes behind it.
    pub(super) moves: Moves,
    /// Whether it is a function-call message instead.
    pub(super) is_function_call: bool,
}

/// An answer that the target owes.
#[derive(Debug)]
pub(super) enum Expect {
    /// ParseComplete.
    Parse(Arc<Statement>),
    /// BindComplete.
    Bind(Arc<Portal>),
    /// ParameterDescription, then RowDescription or NoData, of a prepared statement.
    DescribeStatement(Option<Arc<Statement>>),
    /// RowDescription or NoData, of a portal. `injected`: the client did not ask.
    DescribePortal { name: Bytes, injected: bool },
    /// CloseComplete.
    CloseStatement(Bytes),
    /// CloseComplete.
    ClosePortal(Bytes),
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended, of the portal that was described last.
    Execute(Box<Ran>),
    /// Anything, then ReadyForQuery.
    Query(Box<Ran>),
    /// The error of an impossible Bind, in whose place this goes to the client.
    Refusal(Bytes),
    /// ReadyForQuery.
    Sync,
}

/// An answer owed, and to which command it belongs.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) expect: Expect,
    /// The `stream_seq` of its `CommandReceived`.
    pub(super) command_seq: Option<u64>,
    /// Whether the command is complete with this answer.
    pub(super) ends_command: bool,
}

impl Expected {
    /// What it keeps in memory, in bytes, about.
    pub(super) fn kept_bytes(&self) -> usize {
        match &self.expect {
            Expect::Parse(statement) => statement_bytes(statement),
            Expect::Bind(portal) => portal_bytes(portal),
            _ => 0,
        }
    }
}

/// What prepared statements and portals the target has, as far as it confirmed them.
#[derive(Debug, Default)]
pub(super) struct Confirmed {
    pub(super) statements: HashMap<Bytes, Arc<Statement>>,
    pub(super) portals: HashMap<Bytes, Arc<Portal>>,
    bytes: usize,
}

impl Confirmed {
    /// About how much memory texts and bound values take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn insert_statement(&mut self, statement: Arc<Statement>) {
        self.bytes += statement_bytes(&statement);
        if let Some(old) = self.statements.insert(statement.name.clone(), statement) {
            self.bytes = self.bytes.saturating_sub(statement_bytes(&old));
        }
    }

    pub(super) fn insert_portal(&mut self, portal: Arc<Portal>) {
        self.bytes += portal_bytes(&portal);
        if let Some(old) = self.portals.insert(portal.name.clone(), portal) {
            self.bytes -= portal_bytes(&old);
        }
    }

    pub(super) fn remove_statement(&mut self, name: &[u8]) {
        if let Some(old) = self.statements.remove(name) {
            self.bytes = self.bytes.saturating_sub(statement_bytes(&old));
        }
    }

    pub(super) fn remove_portal(&mut self, name: &[u8]) {
        if let Some(old) = self.portals.remove(name) {
            self.bytes -= portal_bytes(&old);
        }
    }

    /// Nothing is known any more of what a name means.
    pub(super) fn clear_statements(&mut self) {
        for (_, statement) in self.statements.drain() {
            self.bytes = self.bytes.saturating_sub(statement_bytes(&statement));
        }
    }

    /// Outside a transaction there are no portals.
    pub(super) fn clear_portals(&mut self) {
        for (_, portal) in self.portals.drain() {
            self.bytes -= portal_bytes(&portal);
        }
    }
}

/// What a kept statement takes beside its text, in bytes, about.
const ENTRY_BYTES: usize = 256;

fn statement_bytes(statement: &Statement) -> usize {
    // A statement's parameters are described once and kept, at four bytes each, like those that were declared.
    ENTRY_BYTES + statement.name.len() + statement.sql.len() + 4 * statement.declared_type_oids.len()
}

fn portal_bytes(portal: &Portal) -> usize {
    ENTRY_BYTES + portal.name.len() + portal.bind.len()
}

/// The statement that `name` will mean to a message sent now: the newest of those on their way, else the confirmed one.
pub(super) fn find_statement<'a>(
    newest_first: impl Iterator<Item = &'a Expected>,
    confirmed: &Confirmed,
    name: &[u8],
) -> Option<Arc<Statement>> {
    for expected in newest_first {
        match &expected.expect {
            Expect::Parse(statement) if *statement.name == *name => return Some(statement.clone()),
            Expect::CloseStatement(closed) if **closed == *name => return None,
            Expect::Query(_) if name.is_empty() => return None,
            Expect::Query(ran) | Expect::Execute(ran)
                if ran.redefined.iter().any(|other| **other == *name || other == b"all") =>
            {
                return None;
            }
            _ => {}
        }
    }
    confirmed.statements.get(name).cloned()
}

/// Whether what `name` will mean hangs on an answer that is still owed behind a Sync: if the target refuses what was sent
/// before it, the name means something older.
pub(super) fn is_undecided<'a>(
    newest_first: impl Iterator<Item = &'a Expected>,
    names: impl Fn(&Expect) -> bool,
) -> bool {
    let mut behind_sync = false;
    for expected in newest_first {
        match &expected.expect {
            Expect::Query(_) if names(&expected.expect) => return true,
            Expect::Sync | Expect::Query(_) => behind_sync = true,
            expect if names(expect) => return behind_sync,
            _ => {}
        }
    }
    false
}

/// The portal that `name` will mean to a message sent now.
pub(super) fn find_portal<'a>(
    newest_first: impl Iterator<Item = &'a Expected>,
    confirmed: &Confirmed,
    name: &[u8],
) -> Option<Arc<Portal>> {
    for expected in newest_first {
        match &expected.expect {
            Expect::Bind(portal) if *portal.name == *name => return Some(portal.clone()),
            Expect::ClosePortal(closed) if **closed == *name => return None,
            Expect::Query(_) if name.is_empty() => return None,
            _ => {}
        }
    }
    confirmed.portals.get(name).cloned()
}
