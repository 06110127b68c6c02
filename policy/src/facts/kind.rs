//! What a statement does.

use super::CopyFacts;

/// What a statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementKind {
    /// SELECT, TABLE, or VALUES.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,
    /// COPY; a query it copies is level 0.
    Copy(Box<CopyFacts>),
    /// BEGIN, COMMIT, SAVEPOINT and their like.
    Transaction,
    /// SET, or RESET of one name.
    Set(SettingFacts),
    /// RESET ALL.
    ResetAll,
    /// SHOW.
    Show,
    /// EXPLAIN; the levels are those of what it explains.
    Explain {
        /// Whether it also runs it.
        analyze: bool,
        /// What it explains.
        inner: Box<StatementKind>,
    },
    /// PREPARE; the levels are those of what it prepares.
    Prepare {
        /// The name.
        name: String,
        /// What it prepares.
        inner: Box<StatementKind>,
    },
    /// EXECUTE; level 0 holds the expressions of its arguments.
    Execute {
        /// The name.
        name: String,
    },
    /// DEALLOCATE; without a name, of all.
    Deallocate {
        /// The name.
        name: Option<String>,
    },
    /// DECLARE … CURSOR; the levels are those of its query.
    DeclareCursor {
        /// The cursor's name.
        name: String,
    },
    /// FETCH.
    Fetch {
        /// The cursor's name.
        name: String,
    },
    /// MOVE.
    Move {
        /// The cursor's name.
        name: String,
    },
    /// CLOSE.
    ClosePortal,
    /// LISTEN.
    Listen,
    /// NOTIFY.
    Notify,
    /// UNLISTEN.
    Unlisten,
    /// LOCK.
    Lock,
    /// CALL.
    Call,
    /// DO.
    Do,
    /// VACUUM or ANALYZE.
    Vacuum {
        /// Whether it is ANALYZE alone.
        analyze_only: bool,
    },
    /// TRUNCATE.
    Truncate,
    /// DROP of anything.
    Drop,
    /// DISCARD.
    Discard,
    /// CHECKPOINT, and SET CONSTRAINTS: nothing of data.
    Housekeeping,
    /// A definition or change of something that holds no code: tables, views, indexes, types, roles, grants.
    Definition,
    /// CREATE TABLE AS, SELECT INTO, CREATE MATERIALIZED VIEW from a query.
    CreateTableAs,
    /// CREATE TABLE AS EXECUTE.
    CreateTableAsExecute {
        /// The prepared statement's name.
        name: String,
    },
    /// What makes the target run code or reach elsewhere: functions, triggers, rules, extensions, foreign servers, publications.
    Code,
    /// What sets how sessions to come behave: ALTER ROLE … SET, ALTER SYSTEM.
    SystemSetting,
    /// A node that the walk does not know, or one that may not stand there.
    Unknown,
}

/// SET or RESET of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingFacts {
    /// Its name in lower case; `transaction` and its like for the special forms.
    pub name: String,
    /// Its values as texts; none for DEFAULT and RESET.
    pub values: Vec<String>,
    /// SET LOCAL.
    pub local: bool,
}
