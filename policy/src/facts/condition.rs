//! How far the condition of a statement narrows the rows that it acts on, by its form alone.

use pg_query::NodeEnum;
use pg_query::protobuf::{AExpr, AExprKind, BoolExprType, Node, SelectStmt, SubLink, SubLinkType};

use super::expression::text;

/// How far a condition narrows the rows that are acted on. What it comes to for the rows that are there nobody can tell from
/// its text: `id > 0` narrows by its form and may hold for every row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// There is none.
    #[default]
    Absent,
    /// It names no column: `true`, `1 = 1`.
    Constant,
    /// It names a column, and may well hold for every row there is: `id = id`, `id IS NOT NULL`.
    Open,
    /// It compares a column with what is no column: `id = 7`, `created < now() - interval '1 year'`.
    Narrow,
}

impl Condition {
    /// That of a condition. With a name only columns that it qualifies count.
    pub(super) fn of(node: Option<&Node>, written: Option<&str>) -> Self {
        match node.map(|node| &node.node) {
            None => Self::Absent,
            Some(None) => Self::Constant,
            Some(Some(node)) => Columns { written }.condition(node),
        }
    }
}

/// Which columns count.
#[derive(Clone, Copy)]
struct Columns<'a> {
    /// Those that this name qualifies; any, without one.
    written: Option<&'a str>,
}

impl Columns<'_> {
    /// AND narrows as far as the part that narrows most, OR as far as the one that narrows least.
    fn condition(self, node: &NodeEnum) -> Condition {
        match node {
            NodeEnum::BoolExpr(expression) => {
                let parts = expression.args.iter().filter_map(|part| part.node.as_ref());
                let parts = parts.map(|part| self.condition(part));
                match expression.boolop() {
                    BoolExprType::AndExpr => parts.max().unwrap_or(Condition::Constant),
                    BoolExprType::OrExpr => parts.min().unwrap_or(Condition::Constant),
                    // What is left over of a narrow condition is wide.
                    _ => parts.min().unwrap_or(Condition::Constant).min(Condition::Open),
                }
            }
            NodeEnum::AExpr(expression) if compares(expression) => self.comparison(expression),
            // The one row that a cursor stands on.
            NodeEnum::CurrentOfExpr(_) => Condition::Narrow,
            NodeEnum::SubLink(link) => self.sub_query(link),
            other if self.named_by(other) => Condition::Open,
            _ => Condition::Constant,
        }
    }

    fn comparison(self, expression: &AExpr) -> Condition {
        let of_written = |node: Option<&NodeEnum>| node.is_some_and(|node| self.named_by(node));
        let of_any =
            |node: Option<&NodeEnum>| node.is_some_and(|node| Columns { written: None }.named_by(node));
        let [left, right] = [&expression.lexpr, &expression.rexpr]
            .map(|side| side.as_deref().and_then(|it| it.node.as_ref()));
        match (of_written(left), of_written(right)) {
            (true, false) if !of_any(right) => Condition::Narrow,
            (false, true) if !of_any(left) => Condition::Narrow,
            (false, false) => Condition::Constant,
            _ => Condition::Open,
        }
    }

    /// `id IN (SELECT …)` narrows as far as the sub-query's own condition. Every other form may hold for every row.
    fn sub_query(self, link: &SubLink) -> Condition {
        let outer = link.testexpr.as_deref().and_then(|test| test.node.as_ref());
        let outer = outer.is_some_and(|test| self.named_by(test));
        let operator = link.oper_name.last().and_then(text);
        let is_in =
            link.sub_link_type() == SubLinkType::AnySublink && operator.is_none_or(|name| name == "=");
        let inner = match link.subselect.as_deref().map(|query| &query.node) {
            Some(Some(NodeEnum::SelectStmt(select))) => of_query(select),
            _ => Condition::Constant,
        };
        match (outer, is_in) {
            (true, true) => inner.max(Condition::Open),
            (true, false) => Condition::Open,
            (false, _) => inner.min(Condition::Open),
        }
    }

    /// Whether an expression names a column that counts. It looks as deep as operators, casts and calls go; what is deeper
    /// counts as naming one, which narrows less.
    fn named_by(self, node: &NodeEnum) -> bool {
        let any = |nodes: &[Node]| {
            nodes.iter().filter_map(|node| node.node.as_ref()).any(|node| self.named_by(node))
        };
        let one = |node: Option<&Node>| {
            node.and_then(|node| node.node.as_ref()).is_some_and(|node| self.named_by(node))
        };
        match node {
            NodeEnum::ColumnRef(column) => match (self.written, column.fields.as_slice()) {
                (None, _) => true,
                (Some(written), [.., qualifier, _]) => text(qualifier) == Some(written),
                (Some(_), _) => false,
            },
            NodeEnum::AConst(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::SqlvalueFunction(_)
            | NodeEnum::Integer(_)
            | NodeEnum::Float(_)
            | NodeEnum::Boolean(_)
            | NodeEnum::String(_)
            | NodeEnum::BitString(_) => false,
            NodeEnum::TypeCast(cast) => one(cast.arg.as_deref()),
            NodeEnum::CollateClause(collate) => one(collate.arg.as_deref()),
            NodeEnum::AExpr(expression) => {
                one(expression.lexpr.as_deref()) || one(expression.rexpr.as_deref())
            }
            NodeEnum::BoolExpr(expression) => any(&expression.args),
            NodeEnum::FuncCall(call) => any(&call.args),
            NodeEnum::CoalesceExpr(expression) => any(&expression.args),
            NodeEnum::MinMaxExpr(expression) => any(&expression.args),
            NodeEnum::AArrayExpr(array) => any(&array.elements),
            NodeEnum::RowExpr(row) => any(&row.args),
            NodeEnum::List(list) => any(&list.items),
            _ => true,
        }
    }
}

/// Whether an operation holds for part of the values of a column, if the other side is given.
fn compares(expression: &AExpr) -> bool {
    let operator = expression.name.last().and_then(text).unwrap_or_default();
    let negates = operator == "<>" || operator.starts_with('!');
    match expression.kind() {
        AExprKind::AexprOp
        | AExprKind::AexprOpAny
        | AExprKind::AexprIn
        | AExprKind::AexprLike
        | AExprKind::AexprIlike
        | AExprKind::AexprSimilar => !negates,
        AExprKind::AexprBetween | AExprKind::AexprBetweenSym | AExprKind::AexprNotDistinct => true,
        _ => false,
    }
}

fn of_query(select: &SelectStmt) -> Condition {
    match (select.larg.as_deref(), select.rarg.as_deref()) {
        (Some(left), Some(right)) => of_query(left).min(of_query(right)),
        _ => Condition::of(select.where_clause.as_deref(), None),
    }
}
