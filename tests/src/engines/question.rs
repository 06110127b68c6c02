//! What everybody is asked, and answers as texts.

use serde_json::Value;

use crate::checkout;

/// An answer: rows of cells, each a text that means the same whoever gives it, or NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// One question, as `tests/engines/questions.toml` has it.
#[derive(Debug)]
pub struct Question {
    /// Its name, by which answers are found.
    pub name: String,
    /// What its answer's columns are.
    pub columns: Vec<Column>,
    /// What `retrace sql` is asked of `events`.
    pub retrace: String,
    /// What it is asked of a documented view.
    pub view: Option<String>,
}

/// A column of an answer.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// `text`, `int`, `bool`, `date`, `time` or `bytes`.
    pub kind: String,
}

/// All questions, in their order.
///
/// # Panics
/// If the file is not what its head says.
#[must_use]
pub fn questions() -> Vec<Question> {
    let file = checkout("tests/engines/questions.toml");
    let text = std::fs::read_to_string(file).expect("the questions are in the checkout");
    let table: toml::Table = text.parse().expect("the questions are TOML");
    table["question"].as_array().expect("a list of questions").iter().map(Question::of).collect()
}

impl Question {
    fn of(entry: &toml::Value) -> Self {
        let text = |key: &str| entry.get(key).map(|text| text.as_str().expect("a text").to_owned());
        let column = |column: &toml::Value| {
            let (name, kind) = column.as_str().and_then(|it| it.split_once(' ')).expect("a name and a kind");
            Column { name: name.to_owned(), kind: kind.to_owned() }
        };
        Self {
            name: text("name").expect("a question has a name"),
            columns: entry["columns"].as_array().expect("a list").iter().map(column).collect(),
            retrace: text("retrace").or_else(|| text("sql")).expect("a question has a statement"),
            view: text("view"),
        }
    }

    /// An answer of `retrace sql --format json`.
    #[must_use]
    pub(super) fn answer(&self, rows: &[Value]) -> Rows {
        let row = |row: &Value| self.columns.iter().map(|column| column.cell(&row[&column.name])).collect();
        rows.iter().map(row).collect()
    }
}

impl Column {
    /// A cell as the engines' programs write it. What is not of the column's kind says so, and is equal to nothing.
    fn cell(&self, value: &Value) -> Option<String> {
        let text = match (self.kind.as_str(), value) {
            (_, Value::Null) => return None,
            ("text" | "date" | "bytes", Value::String(text)) => text.clone(),
            ("time", Value::String(text)) => to_the_microsecond(text),
            ("int", Value::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
            ("bool", Value::Bool(flag)) => flag.to_string(),
            (kind, other) => format!("not {kind}: {other}"),
        };
        Some(text)
    }
}

/// A time in UTC with all six digits of its second's fraction.
fn to_the_microsecond(time: &str) -> String {
    let whole = time.trim_end_matches('Z');
    let (seconds, fraction) = whole.split_once('.').unwrap_or((whole, ""));
    format!("{seconds}.{fraction:0<6}Z")
}

/// The rows of what a program gave for a question, or why there are none.
pub(super) fn rows_of(got: Option<&Value>) -> Result<Rows, String> {
    let Some(got) = got else { return Err("it gave no answer".to_owned()) };
    if let Some(why) = got.get("failed").and_then(Value::as_str) {
        return Err(why.to_owned());
    }
    let rows = got.get("rows").cloned().unwrap_or_default();
    serde_json::from_value(rows).map_err(|error| format!("its answer is not rows of texts: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn question(columns: &[&str]) -> Question {
        let column = |column: &&str| {
            let (name, kind) = column.split_once(' ').expect("two words");
            Column { name: name.to_owned(), kind: kind.to_owned() }
        };
        Question {
            name: "q".to_owned(),
            columns: columns.iter().map(column).collect(),
            retrace: String::new(),
            view: None,
        }
    }

    #[test]
    fn cells_are_texts_in_the_order_of_the_columns() {
        let asked = question(&["b time", "a int", "c bytes", "d bool", "e text", "f date"]);
        let row = json!({"a": -7, "b": "2026-11-29T16:00:00.5Z", "c": "00ff", "d": true, "e": "", "f": null});
        let cells =
            ["2026-11-29T16:00:00.500000Z", "-7", "00ff", "true", ""].map(|cell| Some(cell.to_owned()));
        let mut expected = cells.to_vec();
        expected.push(None);
        assert_eq!(asked.answer(&[row]), [expected]);
        assert_eq!(to_the_microsecond("2026-11-29T16:00:00Z"), "2026-11-29T16:00:00.000000Z");
    }

    #[test]
    fn what_is_of_another_kind_is_equal_to_nothing() {
        let asked = question(&["a int", "b text"]);
        let cells = asked.answer(&[json!({"a": "7", "b": 7})]);
        assert_eq!(cells, [["not int: \"7\"", "not text: 7"].map(|cell| Some(cell.to_owned()))]);
    }

    #[test]
    fn an_answer_that_is_none_says_why() {
        assert_eq!(rows_of(None), Err("it gave no answer".to_owned()));
        assert_eq!(rows_of(Some(&json!({"failed": "no such column"}))), Err("no such column".to_owned()));
        assert!(rows_of(Some(&json!({"rows": [[1]]}))).is_err());
        assert!(rows_of(Some(&json!({}))).is_err());
        assert_eq!(
            rows_of(Some(&json!({"rows": [["1", null]]}))),
            Ok(vec![vec![Some("1".to_owned()), None]])
        );
    }

    #[test]
    fn every_question_can_be_read() {
        let questions = questions();
        assert!(questions.len() >= 12 && questions.iter().any(|question| question.view.is_some()));
    }
}
