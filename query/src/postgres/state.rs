use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::BytesMut;
use datafusion::common::ScalarValue;

use super::answer::Answer;
use super::types::Wire;

/// What a connection keeps between messages.
#[derive(Default)]
pub(super) struct State {
    pub(super) out: BytesMut,
    pub(super) prepared: HashMap<String, Arc<Prepared>>,
    pub(super) portals: HashMap<String, Portal>,
    pub(super) in_transaction: bool,
    /// After an error in the extended protocol nothing is looked at up to the next Sync.
    pub(super) skips: bool,
}

/// A statement that Parse named.
pub(super) struct Prepared {
    pub(super) text: String,
    pub(super) asks: Asks,
    pub(super) parameters: Vec<Wire>,
    /// `None` for a statement that answers with no rows.
    pub(super) schema: Option<SchemaRef>,
}

/// What a statement is about.
pub(super) enum Asks {
    Nothing,
    Setting,
    Evidence,
}

/// A statement that Bind gave its parameters.
pub(super) struct Portal {
    pub(super) statement: Arc<Prepared>,
    pub(super) parameters: Vec<ScalarValue>,
    pub(super) formats: Vec<u16>,
    /// What is left of its rows once it has begun.
    pub(super) answer: Option<Answer>,
}
