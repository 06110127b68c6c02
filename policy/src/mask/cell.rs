//! Values of rows, on their way in and out.

/// A value of a row as the record wants it.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    /// NULL.
    Null,
    /// As PostgreSQL would print it, and what its type allows to stand in its place.
    Printed(&'a [u8], ColumnText),
    /// Of a type that cannot be printed here.
    Opaque(&'a [u8]),
}

/// What may stand in a column's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnText {
    /// Any characters.
    Any,
    /// JSON: what is replaced must leave it JSON.
    Json,
    /// Only values of its type: where something must be replaced, the client gets NULL.
    Typed,
}

/// What the client may see of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientText<'a> {
    /// The value as it came.
    AsItCame,
    /// This text instead.
    Replaced(&'a [u8]),
    /// NULL instead.
    Null,
}
