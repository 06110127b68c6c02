use super::Name;
use pg_query::protobuf::RangeVar;
pub(super) fn name_of(relation: &RangeVar) -> Name {
    let schema = (!relation.schemaname.is_empty()).then(|| relation.schemaname.clone());
    Name { schema, name: relation.relname.clone() }
}
