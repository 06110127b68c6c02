use std::mem;

use retrace_proto::wire::{self, response_part::Part};

use crate::{MaskedCell, ResponseItem, ResultSet};

/// How many rows without any column a result shows; nothing but a count stands behind them, so it must not size memory.
const EMPTY_ROWS_MAX: u32 = 100_000;

const BAD_LENGTHS: &str = "rows whose lengths contradict each other";

/// Joins the parts of one response, in the order they were recorded.
#[derive(Debug, Default)]
pub(crate) struct Joiner {
    items: Vec<ResponseItem>,
    open: Option<Open>,
    next_chunk: u32,
    /// Something before is missing, so no cell's place can be told until columns come again.
    lost: bool,
}

#[derive(Debug, Default)]
struct Open {
    set: ResultSet,
    column_count: Option<usize>,
}

impl Joiner {
    /// The next recorded chunk; numbers between it and the one before are reported as missing.
    pub(crate) fn chunk(&mut self, chunk: &wire::ResponseChunk) {
        self.expect_chunks(chunk.chunk_index);
        if chunk.chunk_index < self.next_chunk {
            self.lose(ResponseItem::Unreadable("a chunk under a number that was there before"));
        }
        self.next_chunk = self.next_chunk.max(chunk.chunk_index.saturating_add(1));
        self.parts(&chunk.parts);
    }

    /// So many chunks should have been there by now.
    pub(crate) fn expect_chunks(&mut self, chunks: u32) {
        if chunks > self.next_chunk {
            self.lose(ResponseItem::OmittedChunks(self.next_chunk..chunks));
            self.next_chunk = chunks;
        }
    }

    /// The next parts.
    pub(crate) fn parts(&mut self, parts: &[wire::ResponsePart]) {
        for part in parts {
            match &part.part {
                Some(part) => self.part(part),
                None => self.lose(ResponseItem::Unreadable("a part of a kind this version does not know")),
            }
        }
    }

    /// The next rows of COPY data, which nothing describes.
    pub(crate) fn copied(&mut self, rows: &wire::ResultRows) {
        self.rows(rows);
    }

    /// What came together.
    pub(crate) fn finish(mut self) -> Vec<ResponseItem> {
        self.end_rows();
        self.items
    }

    fn part(&mut self, part: &Part) {
        match part {
            Part::Columns(columns) => self.columns(columns),
            Part::Rows(rows) => self.rows(rows),
            Part::Diagnostic(diagnostic) if !diagnostic.is_error => {
                self.items.push(ResponseItem::Diagnostic(diagnostic.clone()));
            }
            Part::Setting(setting) => self.items.push(ResponseItem::Setting(setting.clone())),
            Part::Notification(it) => self.items.push(ResponseItem::Notification(it.clone())),
            Part::Diagnostic(diagnostic) => self.end(ResponseItem::Diagnostic(diagnostic.clone())),
            Part::CommandTag(tag) => self.end(ResponseItem::Tag(tag.clone())),
            Part::PortalSuspended(_) => self.end(ResponseItem::Suspended),
            Part::EmptyQuery(_) => self.end(ResponseItem::EmptyQuery),
            Part::ParameterTypes(types) => {
                self.end(ResponseItem::ParameterTypes(types.type_oids.clone()));
            }
        }
    }

    /// A description. One that repeats the one before it, as of a statement and then of its portal, counts once.
    fn columns(&mut self, described: &wire::ResultColumns) {
        self.lost = false;
        let repeats = self.open.as_ref().is_some_and(|open| {
            let before = open.set.columns.iter().map(|column| &column.name);
            open.set.rows.is_empty() && before.eq(described.columns.iter().map(|column| &column.name))
        });
        if !repeats {
            self.end_rows();
        }
        let set = ResultSet { columns: described.columns.clone(), ..ResultSet::default() };
        self.open = Some(Open { set, column_count: None });
    }

    fn rows(&mut self, rows: &wire::ResultRows) {
        let Some(cells) = split_cells(rows) else {
            self.lose(ResponseItem::Unreadable(BAD_LENGTHS));
            return;
        };
        if self.lost {
            self.items.push(ResponseItem::UnplacedCells(cells));
            return;
        }
        let column_count = rows.column_count as usize;
        let open = self.open.get_or_insert_default();
        let fits = open.column_count.is_none_or(|before| before == column_count)
            && (column_count > 0 || cells.is_empty());
        if !fits || !open.set.push(column_count, cells, rows) {
            self.lose(ResponseItem::Unreadable(BAD_LENGTHS));
            return;
        }
        open.column_count = Some(column_count);
    }

    fn lose(&mut self, why: ResponseItem) {
        self.end(why);
        self.lost = true;
    }

    fn end(&mut self, with: ResponseItem) {
        self.end_rows();
        self.items.push(with);
    }

    fn end_rows(&mut self) {
        if let Some(open) = mem::take(&mut self.open) {
            self.items.push(ResponseItem::Rows(open.set));
        }
    }
}

impl ResultSet {
    /// Appends a part's cells; `false` if they cannot follow what is there.
    fn push(&mut self, column_count: usize, cells: Vec<Option<String>>, part: &wire::ResultRows) -> bool {
        if column_count == 0 {
            let room = (EMPTY_ROWS_MAX as usize).saturating_sub(self.rows.len());
            self.rows.extend((0..room.min(part.row_count as usize)).map(|_| Vec::new()));
            return room >= part.row_count as usize;
        }
        let within_row = part.continued || self.rows.last().is_some_and(|row| row.len() < column_count);
        let first_row = self.rows.len().saturating_sub(usize::from(within_row)) as u64;
        let mut cells = cells.into_iter();
        if part.continued {
            let rest = cells.next().flatten();
            let begun = self.rows.last_mut().and_then(|row| row.last_mut()).and_then(Option::as_mut);
            let (Some(begun), Some(rest)) = (begun, rest) else { return false };
            begun.push_str(&rest);
        }
        for cell in cells {
            match self.rows.last_mut() {
                Some(row) if row.len() < column_count => row.push(cell),
                _ => self.rows.push(vec![cell]),
            }
        }
        self.escaped |= part.escaped;
        self.masks_omitted += u64::from(part.masks_omitted);
        self.masks.extend(part.masks.iter().map(|mask| MaskedCell {
            row: first_row + u64::from(mask.row),
            column: mask.column,
            kind: mask.kind(),
            action: mask.action(),
            rule: mask.rule.clone(),
        }));
        true
    }
}

/// The cells of a part; `None` if the lengths do not add up to the text.
fn split_cells(rows: &wire::ResultRows) -> Option<Vec<Option<String>>> {
    let mut rest = rows.cells.as_str();
    let mut cells = Vec::with_capacity(rows.cell_bytes.len());
    for &bytes in &rows.cell_bytes {
        if bytes == -1 {
            cells.push(None);
            continue;
        }
        let (cell, after) = rest.split_at_checked(usize::try_from(bytes).ok()?)?;
        cells.push(Some(cell.to_owned()));
        rest = after;
    }
    rest.is_empty().then_some(cells)
}
