//! The denials, in the words that clients get.

use crate::decide::Denial;

const fn denial(rule: &'static str, message: &'static str, hint: &'static str) -> Denial {
    Denial::fixed(rule, "42501", message, hint)
}

/// There are no facts, or a node is unknown.
pub const UNPARSED: Denial = denial(
    "columns.unparsed",
    "retrace: this target has masked columns, and the statement could not be read to see whether it uses them",
    "Check the statement's syntax against PostgreSQL 18 and send it in smaller parts; nothing of it was executed.",
);

/// The target reads backslashes or letters in another way than the parser.
pub const LEXED_OTHERWISE: Denial = denial(
    "columns.session",
    "retrace: this target has masked columns, and statements must be read here as the target reads them",
    "Keep standard_conforming_strings on, and use the encoding UTF8; write backslashes in constants as E'\\\\'.",
);

/// A masked column is compared by something else than a few literals.
pub const COMPARED: Denial = denial(
    "columns.compared",
    "retrace: a masked column may be compared only by = with a literal or a parameter, in WHERE",
    "Write column = 'value', column IN ('a', 'b') or column IS NULL in WHERE; nothing of this command was executed.",
);

/// A masked column in a join.
pub const JOINED: Denial = denial(
    "columns.joined",
    "retrace: a masked column may not be joined on",
    "Join on a column that is not masked, such as a key; nothing of this command was executed.",
);

/// A masked column in ORDER BY.
pub const ORDERED: Denial = denial(
    "columns.ordered",
    "retrace: a masked column may not be ordered by",
    "Order by a column that is not masked, such as a key; nothing of this command was executed.",
);

/// A masked column in GROUP BY, DISTINCT, UNION and their like.
pub const GROUPED: Denial = denial(
    "columns.grouped",
    "retrace: a masked column may not be grouped by, made distinct or put into UNION, INTERSECT or EXCEPT",
    "Leave the masked column out of what is grouped; nothing of this command was executed.",
);

/// A masked column in an expression.
pub const EXPRESSION: Denial = denial(
    "columns.expression",
    "retrace: a masked column may be selected alone, and not within an expression, a call or a sub-query's value",
    "Select the column by its name; it comes masked. Nothing of this command was executed.",
);

/// A whole row, or a star where its columns cannot be followed.
pub const WHOLE_ROW: Denial = denial(
    "columns.whole_row",
    "retrace: a row that holds a masked column may not be used as a whole",
    "Name the columns you need; nothing of this command was executed.",
);

/// Too many literals.
pub const GUESSED: Denial = denial(
    "columns.guessed",
    "retrace: masked columns are compared with too many literals in one statement",
    "Compare masked columns with at most three literals or parameters; nothing of this command was executed.",
);

/// A masked column is written from what is not a literal.
pub const WRITTEN: Denial = denial(
    "columns.written",
    "retrace: a masked column may be written only from literals and parameters, and what is read from one not at all",
    "Use INSERT … VALUES, SET column = 'value' or COPY … FROM STDIN; nothing of this command was executed.",
);

/// COPY of what cannot be masked.
pub const COPIED: Denial = denial(
    "columns.copy",
    "retrace: the columns of this COPY cannot be told apart, so its masked columns cannot be masked",
    "Copy the table, or a query that selects plain columns of one table, to STDOUT; nothing of this command was executed.",
);

/// COPY to or from a file or a program of the target.
pub const COPIED_AT_TARGET: Denial = denial(
    "columns.copy_at_target",
    "retrace: COPY to or from a file or a program of the target passes the masks by",
    "Use COPY … TO STDOUT or FROM STDIN (in psql, \\copy); nothing of this command was executed.",
);

/// A function that runs SQL given as text, or reads past the tables.
pub const FUNCTION: Denial = denial(
    "columns.function",
    "retrace: on a target with masked columns a function that may read tables may only be called alone, as an output",
    "Select the function's result by itself, or ask for the rows directly; nothing of this command was executed.",
);

/// A function that executes SQL from text.
pub const DYNAMIC: Denial = denial(
    "columns.dynamic",
    "retrace: functions that run SQL given as text or by a table's name are refused on a target with masked columns",
    "Send the statement itself; nothing of this command was executed.",
);

/// Code is defined or run.
pub const CODE: Denial = denial(
    "columns.code",
    "retrace: on a target with masked columns, code and ways elsewhere may not be defined or run through this gate",
    "Have an administrator do it on a connection of their own; nothing of this command was executed.",
);

/// A definition names a masked relation.
pub const DEFINED: Denial = denial(
    "columns.defined",
    "retrace: a definition may not name a relation that has masked columns, nor a view on one or a function that may read it",
    "Have an administrator do it on a connection of their own; nothing of this command was executed.",
);
