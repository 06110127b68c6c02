//! Rows as psql draws them, within the width of a terminal.

use std::fmt::Write;

use crate::look::{Look, Tint};
use crate::safe;

/// Columns are not cut narrower than this; where that would be needed, rows stand one below the other.
const COLUMN_WIDTH_MIN: usize = 8;

/// How NULL stands. A text that reads the same stands in quotes.
const NULL: &str = "NULL";

/// A column's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heading {
    /// Its name, as recorded.
    pub name: String,
    /// Numbers stand to the right.
    pub right: bool,
}

/// Rows under their headings.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// One of each column. A row may be shorter.
    pub headings: &'a [Heading],
    /// Cells as recorded; `None` is NULL.
    pub rows: &'a [Vec<Option<String>>],
}

impl Table<'_> {
    /// Appends the table, aligned like psql's. Values too wide for the terminal are cut with a mark; if columns would
    /// become too narrow to read, each row stands as a list of its own, as with psql's `\x`.
    pub fn draw(&self, look: &Look, out: &mut String) {
        if self.headings.is_empty() {
            out.push_str("--\n");
            return;
        }
        let rows: Vec<Vec<Cell>> = self.rows.iter().map(|row| self.cells(row, look)).collect();
        let names: Vec<String> = self.headings.iter().map(|heading| safe::line(&heading.name)).collect();
        let natural: Vec<usize> = (0..names.len())
            .map(|column| {
                let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width);
                cells.max().unwrap_or(0).max(safe::width(&names[column]))
            })
            .collect();
        match fit(&natural, look.width) {
            Some(widths) => {
                draw_heads(&names, &widths, out);
                self.draw_rows(&rows, &widths, look, out);
            }
            None => draw_down(&names, &rows, 1, look, out),
        }
    }

    /// Appends each row as a list of its own, as psql's `\x` does, the first under the number `first`. Nothing is cut,
    /// however wide the terminal.
    pub fn draw_down(&self, first: u64, look: &Look, out: &mut String) {
        let look = Look { width: None, ..look.clone() };
        let rows: Vec<Vec<Cell>> = self.rows.iter().map(|row| self.cells(row, &look)).collect();
        let names: Vec<String> = self.headings.iter().map(|heading| safe::line(&heading.name)).collect();
        draw_down(&names, &rows, first, &look, out);
    }

    fn cells(&self, row: &[Option<String>], look: &Look) -> Vec<Cell> {
        let shown = row.iter().take(self.headings.len());
        shown.map(|cell| Cell::new(cell.as_deref(), look)).collect()
    }

    fn draw_rows(&self, rows: &[Vec<Cell>], widths: &[usize], look: &Look, out: &mut String) {
        for row in rows {
            let cells = widths.iter().zip(self.headings).enumerate().map(|(column, (&width, heading))| {
                row.get(column)
                    .map_or_else(|| " ".repeat(width + 2), |cell| cell.padded(width, heading.right, look))
            });
            push_row(out, cells.collect::<Vec<_>>().join("|"));
        }
    }
}

/// The names, each in the middle of its column, and a rule below.
fn draw_heads(names: &[String], widths: &[usize], out: &mut String) {
    let heads = names.iter().zip(widths).map(|(name, &width)| {
        let mut name = name.clone();
        safe::cut(&mut name, width);
        let spare = width - safe::width(&name);
        format!(" {}{name}{} ", " ".repeat(spare / 2), " ".repeat(spare - spare / 2))
    });
    push_row(out, heads.collect::<Vec<_>>().join("|"));
    let rules = widths.iter().map(|width| "-".repeat(width + 2));
    push_row(out, rules.collect::<Vec<_>>().join("+"));
}

/// `(2 rows)`, as psql says it.
#[must_use]
pub fn row_count(rows: u64) -> String {
    if rows == 1 { "(1 row)".to_owned() } else { format!("({rows} rows)") }
}

struct Cell {
    text: String,
    width: usize,
    null: bool,
}

impl Cell {
    fn new(value: Option<&str>, look: &Look) -> Self {
        let mut text = match value {
            None => NULL.to_owned(),
            Some(NULL) => format!("\"{NULL}\""),
            Some(value) => safe::line(value),
        };
        if let Some(width) = look.width {
            safe::cut(&mut text, width.max(1));
        }
        Self { width: safe::width(&text), text, null: value.is_none() }
    }

    fn padded(&self, width: usize, right: bool, look: &Look) -> String {
        let mut text = self.text.clone();
        safe::cut(&mut text, width);
        let spare = " ".repeat(width - safe::width(&text));
        if self.null {
            text = look.paint(Tint::Aside, &text);
        }
        if right { format!(" {spare}{text} ") } else { format!(" {text}{spare} ") }
    }
}

/// Widths that fit the terminal: the widest columns give way first. `None` if they would get too narrow.
fn fit(natural: &[usize], terminal: Option<usize>) -> Option<Vec<usize>> {
    let frame = (natural.len() * 3).saturating_sub(1);
    let Some(room) = terminal.map(|width| width.saturating_sub(frame)) else {
        return Some(natural.to_vec());
    };
    let widest = natural.iter().copied().max().unwrap_or(0);
    let capped = |cap: usize| natural.iter().map(move |&width| width.min(cap));
    let cap =
        (COLUMN_WIDTH_MIN.min(widest)..=widest).rev().find(|&cap| capped(cap).sum::<usize>() <= room)?;
    Some(capped(cap).collect())
}

fn push_row(out: &mut String, row: String) {
    out.push_str(row.trim_end());
    out.push('\n');
}

fn draw_down(names: &[String], rows: &[Vec<Cell>], first: u64, look: &Look, out: &mut String) {
    let room = look.width.unwrap_or(usize::MAX);
    let head_width = names.iter().map(|name| safe::width(name)).max().unwrap_or(0).min((room / 2).max(1));
    for (number, row) in (first..).zip(rows) {
        let title = format!("-[ RECORD {number} ]");
        let rule = "-".repeat((head_width + 20).min(room).saturating_sub(title.len()));
        writeln!(out, "{title}{rule}").expect("a String takes all");
        for (name, cell) in names.iter().zip(row) {
            let mut name = name.clone();
            safe::cut(&mut name, head_width);
            let spare = " ".repeat(head_width - safe::width(&name));
            let value = cell.padded(cell.width.min(room.saturating_sub(head_width + 3).max(1)), false, look);
            push_row(out, format!("{name}{spare} |{value}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(headings: &[(&str, bool)], rows: &[&[Option<&str>]], width: Option<usize>) -> String {
        let headings: Vec<Heading> = headings
            .iter()
            .map(|(name, right)| Heading { name: (*name).to_owned(), right: *right })
            .collect();
        let rows: Vec<Vec<Option<String>>> =
            rows.iter().map(|row| row.iter().map(|cell| cell.map(str::to_owned)).collect()).collect();
        let mut out = String::new();
        Table { headings: &headings, rows: &rows }.draw(&Look { width, ..Look::default() }, &mut out);
        out
    }

    #[test]
    fn columns_align_by_what_a_terminal_shows() {
        let table = drawn(
            &[("id", true), ("name", false), ("note", false)],
            &[&[Some("1"), Some("漢字"), None], &[Some("12"), Some("ä"), Some("NULL")]],
            None,
        );
        let expected = " id | name |  note\n\
                        ----+------+--------\n\
                        \x20 1 | 漢字 | NULL\n\
                        \x2012 | ä    | \"NULL\"\n";
        assert_eq!(table, expected);
    }

    #[test]
    fn the_widest_column_gives_way_first() {
        let table = drawn(
            &[("id", true), ("text", false)],
            &[&[Some("1"), Some("a long text that is wider than the terminal")]],
            Some(24),
        );
        assert!(table.lines().all(|line| safe::width(line) <= 24), "{table}");
        assert!(table.contains("  1 | a long text that…\n"), "{table}");
    }

    #[test]
    fn rows_stand_below_each_other_where_columns_do_not_fit() {
        let table = drawn(
            &[("first", false), ("second", false), ("third", false)],
            &[&[Some("aaaaaaaaaaaaaa"), Some("bbbbbbbbbbbbbb"), Some("cccccccccccccc")]],
            Some(24),
        );
        assert!(table.starts_with("-[ RECORD 1 ]---"), "{table}");
        assert!(table.contains("\nsecond | bbbbbbbbbbbbbb\n"), "{table}");
        assert!(table.lines().all(|line| safe::width(line) <= 24), "{table}");
    }

    #[test]
    fn rows_drawn_down_are_counted_on_and_whole() {
        let headings = [Heading { name: "id".to_owned(), right: true }, Heading::default()];
        let rows = [vec![Some("1".to_owned()), Some("a\nb".repeat(20))], vec![None]];
        let mut out = String::new();
        let look = Look { width: Some(12), ..Look::default() };
        Table { headings: &headings, rows: &rows }.draw_down(1001, &look, &mut out);
        assert!(out.starts_with("-[ RECORD 1001 ]--"), "{out}");
        assert!(out.contains(&format!("\n   | {}\n", "a\\nb".repeat(20))), "{out}");
        assert!(out.contains("-[ RECORD 1002 ]--") && out.ends_with("id | NULL\n"), "{out}");
    }

    #[test]
    fn short_rows_no_columns_and_tiny_terminals_are_drawn_all_the_same() {
        assert!(drawn(&[("a", false), ("b", false)], &[&[Some("x")]], None).contains(" x |\n"));
        assert_eq!(drawn(&[], &[&[], &[]], None), "--\n");
        for width in 0..12 {
            drawn(&[("abc", false), ("def", true)], &[&[Some("漢字漢字"), None]], Some(width));
        }
    }

    #[test]
    fn nothing_a_terminal_obeys_leaves_a_cell_or_a_heading() {
        let table = drawn(&[("\x1b[31mred", false)], &[&[Some("a\nb\x1b[0m\u{202e}")]], None);
        assert!(!table.contains('\x1b') && !table.contains('\u{202e}'));
        assert_eq!(table.lines().count(), 3);
    }
}
