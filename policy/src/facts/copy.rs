//! COPY, with its options as the target will read them (`copy.c`, `ProcessCopyOptions`).

use pg_query::NodeEnum;
use pg_query::protobuf::{CopyStmt, DefElem, Node};

use super::Name;

/// The facts of a COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFacts {
    /// Which way.
    pub direction: CopyDirection,
    /// The other end.
    pub endpoint: CopyEndpoint,
    /// The relation, unless it copies a query.
    pub relation: Option<Name>,
    /// The listed columns; empty for all.
    pub columns: Vec<String>,
    /// Whether it copies a query, which is the statement's level 0.
    pub query: bool,
    /// FORMAT.
    pub format: CopyFormat,
    /// DELIMITER, if given.
    pub delimiter: Option<String>,
    /// NULL, if given.
    pub null: Option<String>,
    /// HEADER.
    pub header: CopyHeader,
    /// QUOTE, if given.
    pub quote: Option<String>,
    /// ESCAPE, if given.
    pub escape: Option<String>,
    /// FORCE_QUOTE.
    pub force_quote: ForceColumns,
    /// ENCODING, if given.
    pub encoding: Option<String>,
    /// Whether an option stands there that is not read here, so that the form of the data is unknown.
    pub unknown_option: bool,
}

/// Which way COPY copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyDirection {
    /// Out of the target.
    To,
    /// Into it.
    From,
}

/// Where COPY copies to or from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyEndpoint {
    /// The client: STDIN or STDOUT.
    Client,
    /// A file of the target.
    File,
    /// A program on the target.
    Program,
}

/// COPY's FORMAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// Text, the default.
    Text,
    /// CSV.
    Csv,
    /// Binary.
    Binary,
}

/// COPY's HEADER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyHeader {
    /// None.
    Absent,
    /// A line of names.
    Present,
    /// A line of names that must match.
    Match,
}

/// A list of columns, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForceColumns {
    /// None.
    None,
    /// All of them.
    All,
    /// These.
    Named(Vec<String>),
}

/// Reads the statement, without its query.
pub(super) fn copy(statement: &CopyStmt) -> CopyFacts {
    let endpoint = match (statement.is_program, statement.filename.is_empty()) {
        (true, _) => CopyEndpoint::Program,
        (false, true) => CopyEndpoint::Client,
        (false, false) => CopyEndpoint::File,
    };
    let mut facts = CopyFacts {
        direction: if statement.is_from { CopyDirection::From } else { CopyDirection::To },
        endpoint,
        relation: statement.relation.as_ref().map(super::from::name_of),
        columns: statement.attlist.iter().filter_map(text).collect(),
        query: statement.query.is_some(),
        format: CopyFormat::Text,
        delimiter: None,
        null: None,
        header: CopyHeader::Absent,
        quote: None,
        escape: None,
        force_quote: ForceColumns::None,
        encoding: None,
        unknown_option: false,
    };
    for option in &statement.options {
        match &option.node {
            Some(NodeEnum::DefElem(option)) => facts.take(option),
            _ => facts.unknown_option = true,
        }
    }
    facts
}

impl CopyFacts {
    fn take(&mut self, option: &DefElem) {
        let argument = option.arg.as_deref();
        let known = match option.defname.as_str() {
            "format" => {
                argument.and_then(text).and_then(|name| format(&name)).map(|format| self.format = format)
            }
            "header" => header(argument).map(|header| self.header = header),
            "delimiter" => argument.and_then(text).map(|value| self.delimiter = Some(value)),
            "null" => argument.and_then(text).map(|value| self.null = Some(value)),
            "quote" => argument.and_then(text).map(|value| self.quote = Some(value)),
            "escape" => argument.and_then(text).map(|value| self.escape = Some(value)),
            "encoding" => argument.and_then(text).map(|value| self.encoding = Some(value)),
            "force_quote" => force(argument).map(|columns| self.force_quote = columns),
            // They change how input is read and nothing of its form.
            "freeze" | "force_not_null" | "force_null" | "on_error" | "log_verbosity" | "reject_limit" => {
                Some(())
            }
            _ => None,
        };
        self.unknown_option |= known.is_none();
    }
}

fn format(name: &str) -> Option<CopyFormat> {
    match name {
        "text" => Some(CopyFormat::Text),
        "csv" => Some(CopyFormat::Csv),
        "binary" => Some(CopyFormat::Binary),
        _ => None,
    }
}

/// HEADER is a boolean in any of its spellings, an integer, or `match` (`defGetCopyHeaderOption`).
fn header(argument: Option<&Node>) -> Option<CopyHeader> {
    let Some(argument) = argument else { return Some(CopyHeader::Present) };
    match &argument.node {
        Some(NodeEnum::Integer(value)) => match value.ival {
            0 => Some(CopyHeader::Absent),
            1 => Some(CopyHeader::Present),
            _ => None,
        },
        Some(NodeEnum::Boolean(value)) => {
            Some(if value.boolval { CopyHeader::Present } else { CopyHeader::Absent })
        }
        _ => match text(argument)?.to_ascii_lowercase().as_str() {
            "true" | "on" => Some(CopyHeader::Present),
            "false" | "off" => Some(CopyHeader::Absent),
            "match" => Some(CopyHeader::Match),
            _ => None,
        },
    }
}

fn force(argument: Option<&Node>) -> Option<ForceColumns> {
    match argument.and_then(|argument| argument.node.as_ref())? {
        NodeEnum::AStar(_) => Some(ForceColumns::All),
        NodeEnum::List(list) => {
            list.items.iter().map(text).collect::<Option<Vec<_>>>().map(ForceColumns::Named)
        }
        _ => None,
    }
}

fn text(node: &Node) -> Option<String> {
    match &node.node {
        Some(NodeEnum::String(value)) => Some(value.sval.clone()),
        _ => None,
    }
}
