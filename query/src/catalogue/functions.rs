use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::postgres::Wire;

/// What the server says it is, to clients that ask by `version()`.
pub(crate) const VERSION: &str = concat!("PostgreSQL 15.0 (Retrace ", env!("CARGO_PKG_VERSION"), ")");

/// The functions that clients call while they look around, none of which reads anything.
pub(crate) fn all() -> Vec<ScalarUDF> {
    let text = |name, value: &str| constant(name, value.to_owned());
    let flag = |name, value| fixed(name, ScalarValue::Boolean(Some(value)));
    let nothing = |name| fixed(name, ScalarValue::Utf8(None));
    vec![
        text("version", VERSION),
        text("current_database", crate::engine::CATALOG),
        text("current_catalog", crate::engine::CATALOG),
        text("current_schema", crate::engine::SCHEMA),
        text("pg_get_userbyid", super::tables::OWNER),
        text("pg_encoding_to_char", "UTF8"),
        text("current_setting", ""),
        text("set_config", ""),
        flag("pg_table_is_visible", true),
        flag("pg_type_is_visible", true),
        flag("pg_function_is_visible", true),
        flag("has_table_privilege", true),
        flag("has_schema_privilege", true),
        flag("has_database_privilege", true),
        flag("pg_is_in_recovery", false),
        flag("pg_is_other_temp_schema", false),
        fixed("pg_backend_pid", ScalarValue::Int64(Some(0))),
        fixed("pg_advisory_unlock_all", ScalarValue::Utf8(Some(String::new()))),
        fixed("pg_my_temp_schema", ScalarValue::Int64(Some(0))),
        nothing("pg_get_expr"),
        nothing("pg_get_indexdef"),
        nothing("pg_get_constraintdef"),
        nothing("obj_description"),
        nothing("col_description"),
        nothing("shobj_description"),
        of_one("format_type", format_type),
        of_one("quote_ident", quote_ident),
        of_one("pg_get_viewdef", view_definition),
    ]
}

/// A function that gives one text, whatever it is given.
pub(crate) fn constant(name: &'static str, value: String) -> ScalarUDF {
    fixed(name, ScalarValue::Utf8(Some(value)))
}

fn fixed(name: &'static str, value: ScalarValue) -> ScalarUDF {
    ScalarUDF::new_from_impl(Function::new(name, Gives::Always(value)))
}

fn of_one(name: &'static str, of: fn(&str) -> String) -> ScalarUDF {
    ScalarUDF::new_from_impl(Function::new(name, Gives::OfFirst(of)))
}

fn format_type(oid: &str) -> String {
    let wire = oid.parse().ok().and_then(Wire::of_oid);
    wire.map_or_else(|| "-".to_owned(), |wire| wire.sql_name().to_owned())
}

/// The view's file, with what it says of its columns.
fn view_definition(oid: &str) -> String {
    let view = crate::views::ALL
        .iter()
        .find(|(name, _)| super::oid_of(name).is_some_and(|it| it.to_string() == oid));
    view.map_or_else(String::new, |(_, sql)| (*sql).to_owned())
}

fn quote_ident(name: &str) -> String {
    let begins = |c: char| c.is_ascii_lowercase() || c == '_';
    let is_plain = name.starts_with(begins) && name.chars().all(|c| begins(c) || c.is_ascii_digit());
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[derive(Clone, Debug)]
enum Gives {
    Always(ScalarValue),
    /// A text of the first argument, which is seen as text.
    OfFirst(fn(&str) -> String),
}

/// A function of however many arguments. The name identifies it.
#[derive(Debug)]
struct Function {
    name: &'static str,
    gives: Gives,
    signature: Signature,
}

impl Function {
    fn new(name: &'static str, gives: Gives) -> Self {
        let signature = Signature::one_of(
            vec![
                datafusion::logical_expr::TypeSignature::VariadicAny,
                datafusion::logical_expr::TypeSignature::Nullary,
            ],
            Volatility::Immutable,
        );
        Self { name, gives, signature }
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match &self.gives {
            Gives::Always(value) => value.data_type(),
            Gives::OfFirst(_) => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let of = match &self.gives {
            Gives::Always(value) => return Ok(ColumnarValue::Scalar(value.clone())),
            Gives::OfFirst(of) => of,
        };
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(first) = arrays.first() else {
            return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None)));
        };
        let texts = cast(first, &DataType::Utf8)?;
        let given: ArrayRef =
            Arc::new(texts.as_string::<i32>().iter().map(|it| it.map(of)).collect::<StringArray>());
        Ok(ColumnarValue::Array(given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_plain_are_quoted() {
        assert_eq!(quote_ident("commands"), "commands");
        assert_eq!(quote_ident("Commands"), "\"Commands\"");
        assert_eq!(quote_ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_ident(""), "\"\"");
    }

    #[test]
    fn types_have_the_names_that_sql_gives_them() {
        assert_eq!(format_type("1184"), "timestamp with time zone");
        assert_eq!(format_type("25"), "text");
        assert_eq!(format_type("999999"), "-");
    }
}
