use std::fmt::Write;

use retrace_proto::wire::{self, command_received::Kind};

use crate::look::Tint;
use crate::table::{Heading, Table, row_count};
use crate::text::{Renderer, parts};
use crate::{Asked, ResponseItem, ResultSet, safe};

/// Types whose values psql sets to the right: int8, int2, int4, oid, xid, cid, float4, float8, money, numeric.
const RIGHT_TYPE_OIDS: [u32; 10] = [20, 21, 23, 26, 28, 29, 700, 701, 790, 1700];

/// Cells shown whose row cannot be told.
const UNPLACED_CELLS_SHOWN_MAX: usize = 100;

impl Renderer {
    /// Appends a response; `asked` is what it answers, if that is recorded.
    pub(super) fn response(&self, response: &[ResponseItem], asked: Option<&Asked>, out: &mut String) {
        let mut after_rows = false;
        for (index, item) in response.iter().enumerate() {
            let fails =
                matches!(response.get(index + 1), Some(ResponseItem::Diagnostic(next)) if next.is_error);
            match item {
                ResponseItem::Rows(set) if asked.is_some_and(|asked| asked.kind == Kind::Prepare) => {
                    *out += &self.description(set);
                }
                // Described and then failed: like psql, show the error alone.
                ResponseItem::Rows(set) if set.rows.is_empty() && fails => {}
                ResponseItem::Rows(set) => self.rows(set, out),
                ResponseItem::Tag(tag) if after_rows && !changes_rows(tag) => {}
                ResponseItem::Tag(tag) => *out += &format!("{}\n", safe::line(tag)),
                ResponseItem::Diagnostic(diagnostic) => self.diagnostic(diagnostic, asked, out),
                ResponseItem::Setting(setting) => {
                    let (name, value) = (safe::line(&setting.name), safe::line(&setting.value));
                    *out += &self.quiet(&format!("(setting {name} = {value})"));
                }
                ResponseItem::Notification(notification) => *out += &notified(notification),
                ResponseItem::Suspended => *out += &self.quiet("(more rows remain: the row limit was met)"),
                ResponseItem::EmptyQuery => *out += &self.quiet("(an empty statement)"),
                ResponseItem::ParameterTypes(oids) if oids.is_empty() => {}
                ResponseItem::ParameterTypes(oids) => {
                    let oids: Vec<String> = oids.iter().map(u32::to_string).collect();
                    *out += &self.quiet(&format!("(parameters of types {})", oids.join(", ")));
                }
                ResponseItem::OmittedChunks(chunks) => {
                    *out += &self.missing(&format!("{} of this response", parts(chunks)));
                }
                ResponseItem::UnplacedCells(cells) => self.unplaced(cells, out),
                ResponseItem::Unreadable(what) => *out += &self.damaged(what),
            }
            after_rows = matches!(item, ResponseItem::Rows(_));
        }
    }

    fn rows(&self, set: &ResultSet, out: &mut String) {
        let shown = &set.rows[..set.rows.len().min(self.look.rows_max)];
        Table { headings: &headings(set), rows: shown }.draw(&self.look, out);
        if shown.len() < set.rows.len() {
            let more = set.rows.len() - shown.len();
            *out += &self.quiet(&format!("… and {more} rows that are not shown: --format json has them"));
        }
        *out += &row_count(set.rows.len() as u64);
        match set.masks.len() as u64 + set.masks_omitted {
            0 => {}
            1 => *out += &self.look.paint(Tint::Aside, " 1 value masked"),
            masks => *out += &self.look.paint(Tint::Aside, &format!(" {masks} values masked")),
        }
        out.push('\n');
    }

    /// What a prepared statement would return.
    fn description(&self, set: &ResultSet) -> String {
        let names: Vec<String> = set.columns.iter().map(|column| safe::line(&column.name)).collect();
        self.quiet(&format!("(returns {})", names.join(", ")))
    }

    /// As psql shows it: severity and message, the line of the statement it points at, then detail, hint and context.
    fn diagnostic(&self, it: &wire::Diagnostic, asked: Option<&Asked>, out: &mut String) {
        let severity = if it.severity.is_empty() { "ERROR" } else { &it.severity };
        let mut text = format!("{}:  ", safe::line(severity));
        push_indented(&mut text, &it.message);
        *out += &if it.is_error { self.look.paint(Tint::Wrong, &text) } else { text };
        out.push('\n');
        let field =
            |code: &str| it.fields.iter().find(|field| field.code == code).map(|field| field.value.as_str());
        if let (Some(position), Some(asked)) = (field("P"), asked) {
            push_position(out, position, asked);
        }
        for (code, name) in [("D", "DETAIL"), ("H", "HINT"), ("W", "CONTEXT")] {
            let Some(value) = field(code).filter(|_| it.is_error || code != "W") else { continue };
            write!(out, "{name}:  ").expect("a String takes all");
            push_indented(out, value);
            out.push('\n');
        }
        if it.omitted_bytes > 0 {
            *out += &self
                .missing(&format!("{} bytes of these texts: they were too long to keep", it.omitted_bytes));
        }
    }

    fn unplaced(&self, cells: &[Option<String>], out: &mut String) {
        *out += &self.damaged(&format!("values whose row cannot be told: {}", cells.len()));
        for cell in cells.iter().take(UNPLACED_CELLS_SHOWN_MAX) {
            let mut line = cell.as_deref().map_or_else(|| "NULL".to_owned(), safe::line);
            if let Some(width) = self.look.width {
                safe::cut(&mut line, width.saturating_sub(2).max(1));
            }
            writeln!(out, "  {line}").expect("a String takes all");
        }
        if cells.len() > UNPLACED_CELLS_SHOWN_MAX {
            let more = cells.len() - UNPLACED_CELLS_SHOWN_MAX;
            *out += &self.quiet(&format!("… and {more} values that are not shown: --format json has them"));
        }
    }
}

fn headings(set: &ResultSet) -> Vec<Heading> {
    if !set.columns.is_empty() {
        let heading = |column: &wire::Column| Heading {
            name: column.name.clone(),
            right: RIGHT_TYPE_OIDS.contains(&column.type_oid),
        };
        return set.columns.iter().map(heading).collect();
    }
    let count = set.rows.iter().map(Vec::len).max().unwrap_or(0);
    (1..=count).map(|number| Heading { name: format!("column{number}"), right: false }).collect()
}

/// psql shows the tag of a statement that returned rows only if it changed some.
fn changes_rows(tag: &str) -> bool {
    ["INSERT", "UPDATE", "DELETE", "MERGE"].iter().any(|verb| tag.starts_with(verb))
}

fn notified(it: &wire::Notification) -> String {
    let (channel, payload) = (safe::line(&it.channel), safe::line(&it.payload));
    let with = if payload.is_empty() { String::new() } else { format!(" with payload \"{payload}\"") };
    format!(
        "Asynchronous notification \"{channel}\"{with} received from server process with PID {}.\n",
        it.process_id
    )
}

/// Text of several lines, the further ones set in, so that none can pass for a line of the replay.
fn push_indented(out: &mut String, text: &str) {
    for (index, line) in safe::lines(text).enumerate() {
        if index > 0 {
            out.push_str("\n        ");
        }
        out.push_str(&line);
    }
}

/// The line of the statement that an error points at (protocol field `P`, counted in characters from 1), as psql draws
/// it. Left out where masking may have moved the place.
fn push_position(out: &mut String, position: &str, asked: &Asked) {
    let Ok(position) = position.parse::<usize>() else { return };
    let chars = asked.statement.chars().count();
    if !asked.masks.is_empty() || asked.begin_missing || position == 0 || position > chars + 1 {
        return;
    }
    let at = asked.statement.char_indices().nth(position - 1).map_or(asked.statement.len(), |(at, _)| at);
    let (before, after) = asked.statement.split_at(at);
    let number = before.matches('\n').count() + 1;
    let begun = before.rsplit('\n').next().unwrap_or_default();
    let rest = after.split('\n').next().unwrap_or_default();
    let head = format!("LINE {number}: ");
    let mut shown = safe::line(begun);
    let caret = head.len() + safe::width(&shown);
    safe::push_line(&mut shown, rest);
    writeln!(out, "{head}{shown}\n{}^", " ".repeat(caret)).expect("a String takes all");
}
