use super::{StatementFacts, StatementKind};
use pg_query::protobuf::RawStmt;
pub(super) fn statement(_sql: &str, _raw: &RawStmt) -> StatementFacts {
    StatementFacts {
        kind: StatementKind::Unknown,
        verb: "",
        levels: vec![],
        functions: vec![],
        operators: vec![],
        types: vec![],
        words: None,
    }
}
pub(super) fn backslash_matters(sql: &str) -> bool {
    sql.contains('\\')
}
