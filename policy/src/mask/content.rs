use std::sync::Arc;

use bytes::Bytes;
use retrace_proto::limits::CHUNK_BYTES_MAX;
use retrace_proto::wire::{
    Column, CopyFormat, Diagnostic, DiagnosticField, Notification, ParameterTypes, RecordResponses,
    ResponsePart, ResultColumns, ResultRows, Setting, response_part::Part,
};
use retrace_proto::{Masked, ResponseContent, ResponseEnd};

use super::cell::{Cell, ClientText, ColumnText};
use super::{Found, MaskList, Masker, Place, Sink, UNREADABLE, bounded, into_text};

/// One field of an ErrorResponse or NoticeResponse: its letter and its text.
pub type RawField<'a> = (u8, &'a [u8]);

/// Most masks that are listed for one cell or diagnostic; the rest are counted.
pub const MASKS_PER_VALUE_MAX: usize = 200;

/// Longest text of a diagnostic, setting or notification that the record keeps whole, in bytes.
pub const DIAGNOSTIC_TEXT_BYTES_MAX: usize = 8 * 1024;

/// Longest name of a mask rule, in bytes.
pub const RULE_NAME_BYTES_MAX: usize = 64;

/// What a mask and its fingerprint take in an event, in bytes, at most.
const MASK_EXTRA_BYTES: usize = RULE_NAME_BYTES_MAX + 56;

/// What a cell takes beside its text, in bytes, at most.
const CELL_EXTRA_BYTES: usize = 5;

/// What any other part takes beside its texts, in bytes, at most.
const PART_EXTRA_BYTES: usize = 40;

/// Takes a response apart value by value: each call says what the client may see, and keeps what the record may.
///
/// Content that has reached the size of one event waits in [`ContentBuilder::poll_full`]; what is left at the end of
/// the exchange comes from [`ContentBuilder::take`].
#[derive(Debug)]
pub struct ContentBuilder {
    pub(super) masker: Arc<Masker>,
    record: RecordResponses,
    full: Vec<ResponseContent>,
    parts: Vec<ResponsePart>,
    rows: Option<ResultRows>,
    pub(super) masks: MaskList,
    end: ResponseEnd,
    filled_bytes: usize,
    column: u32,
    /// The row's number within its part.
    row: u32,
    /// Whether the part's first cell is of a row that began in the part before.
    begins_within_row: bool,
    pub(super) replaced: Vec<u8>,
}

impl ContentBuilder {
    /// Begins with nothing recorded. `record` says how much of what comes is kept; what the client may see is the same.
    #[must_use]
    pub fn new(masker: Arc<Masker>, record: RecordResponses) -> Self {
        Self {
            masker,
            record,
            full: Vec::new(),
            parts: Vec::new(),
            rows: None,
            masks: MaskList::default(),
            end: ResponseEnd::default(),
            filled_bytes: 0,
            column: 0,
            row: 0,
            begins_within_row: false,
            replaced: Vec::new(),
        }
    }

    /// Whether masks may change anything at all.
    #[must_use]
    pub fn masks_anything(&self) -> bool {
        !self.masker.is_empty()
    }

    /// Whether nothing waits to be recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.rows.is_none() && self.full.is_empty()
    }

    /// Bytes that wait to be recorded, about.
    #[must_use]
    pub fn filled_bytes(&self) -> usize {
        self.filled_bytes
    }

    /// The next content that is as large as one event may be.
    pub fn poll_full(&mut self) -> Option<Masked<ResponseContent>> {
        (!self.full.is_empty()).then(|| Masked::by_masking(self.full.remove(0)))
    }

    /// Everything that still waits, for one event. Call after [`ContentBuilder::poll_full`] gave `None`.
    pub fn take(&mut self) -> Masked<ResponseContent> {
        debug_assert!(self.full.is_empty(), "full contents are taken first");
        Masked::by_masking(self.take_content())
    }

    /// The tag and code that came last; the next command begins with none.
    pub fn take_end(&mut self) -> Masked<ResponseEnd> {
        Masked::by_masking(std::mem::take(&mut self.end))
    }

    /// A RowDescription. `name_of` each column is masked; the names for the client are returned where one changed.
    pub fn columns(&mut self, columns: Vec<(Column, &[u8])>) -> Option<Vec<Vec<u8>>> {
        self.columns_of(columns, CopyFormat::Unspecified)
    }

    /// The columns of a COPY to the client. The names for the client are returned where one changed.
    pub fn copy_columns(
        &mut self,
        columns: Vec<(Column, &[u8])>,
        copy_format: CopyFormat,
    ) -> Option<Vec<Vec<u8>>> {
        self.columns_of(columns, copy_format)
    }

    fn columns_of(&mut self, columns: Vec<(Column, &[u8])>, copy_format: CopyFormat) -> Option<Vec<Vec<u8>>> {
        let mut changed = false;
        let mut names = Vec::with_capacity(columns.len());
        let mut recorded = Vec::with_capacity(columns.len());
        let mut cost = PART_EXTRA_BYTES;
        for (mut column, name) in columns {
            let name = match self.replace(name) {
                Some(masked) => {
                    changed = true;
                    masked.to_vec()
                }
                None => name.to_vec(),
            };
            column.name = into_text(&name).0;
            cost += column.name.len() + PART_EXTRA_BYTES;
            names.push(name);
            recorded.push(column);
        }
        self.push(Part::Columns(ResultColumns { columns: recorded, copy_format: copy_format.into() }), cost);
        changed.then_some(names)
    }

    /// A row begins. Its cells follow, one call of [`ContentBuilder::cell`] each.
    pub fn begin_row(&mut self, column_count: usize) {
        self.column = 0;
        if !self.keeps_cells() {
            return;
        }
        let column_count = bounded(column_count);
        if self.rows.as_ref().is_some_and(|rows| rows.column_count != column_count) {
            self.close_rows();
        }
        if self.filled_bytes >= CHUNK_BYTES_MAX {
            self.seal();
        }
        if self.rows.is_none() {
            self.begins_within_row = false;
        }
        let open = self.rows.get_or_insert_with(|| ResultRows { column_count, ..ResultRows::default() });
        self.row = open.row_count + u32::from(self.begins_within_row);
        open.row_count += 1;
        self.filled_bytes += CELL_EXTRA_BYTES;
    }

    /// Whether rows are recorded, in whole or in part.
    fn keeps_cells(&self) -> bool {
        !matches!(self.record, RecordResponses::Shape | RecordResponses::None)
    }

    /// Begins a cell that is hidden whole. Says where it stands.
    pub(super) fn begin_hidden(&mut self) -> Place {
        let place = Place { row: self.row, column: self.column, offset_bytes: 0 };
        self.column += 1;
        self.begin_cell();
        place
    }

    /// Begins the masks of a cell.
    fn begin_cell(&mut self) {
        self.masks.begin_value(if self.keeps_cells() { MASKS_PER_VALUE_MAX } else { 0 });
    }

    /// Ends the masks of a cell, and keeps it as far as the configuration asks.
    pub(super) fn end_cell(&mut self, shown: Option<&[u8]>, changed: bool) {
        let omitted = std::mem::take(&mut self.masks.omitted);
        if !self.keeps_cells() {
            return;
        }
        match shown.filter(|_| changed || self.record != RecordResponses::MaskedOnly) {
            None => self.push_cell(None, false),
            Some(shown) => match std::str::from_utf8(shown) {
                Ok(shown) => self.push_cell(Some(shown), false),
                Err(_) => self.push_cell(Some(&into_text(shown).0), true),
            },
        }
        self.open_rows().masks_omitted += omitted;
    }

    /// Keeps a cell in which there is nothing to hide, as far as the configuration asks.
    fn keep_cell(&mut self, text: &str) {
        self.begin_cell();
        match self.record {
            RecordResponses::Shape | RecordResponses::None => {}
            RecordResponses::MaskedOnly => self.push_cell(None, false),
            RecordResponses::Full | RecordResponses::Unspecified => self.push_cell(Some(text), false),
        }
    }

    /// The next cell of the row.
    pub fn cell(&mut self, cell: Cell<'_>) -> ClientText<'_> {
        let column = self.column;
        self.column += 1;
        match cell {
            Cell::Null => {
                self.begin_cell();
                self.end_cell(None, false);
                ClientText::AsItCame
            }
            Cell::Opaque(bytes) if self.masker.is_empty() => {
                self.begin_cell();
                self.end_cell(Some(hex(bytes).as_bytes()), false);
                ClientText::AsItCame
            }
            Cell::Opaque(_) => {
                let place = Place { row: self.row, column, offset_bytes: 0 };
                self.begin_cell();
                self.masks.push_unreadable(place, UNREADABLE.len());
                self.end_cell(Some(UNREADABLE.as_bytes()), true);
                ClientText::Null
            }
            Cell::Printed(text, allows) => self.printed_cell(text, allows, column),
        }
    }

    fn printed_cell(&mut self, text: &[u8], allows: ColumnText, column: u32) -> ClientText<'_> {
        let utf8 = std::str::from_utf8(text);
        let found = self.masker.look(text, utf8.is_ok(), allows);
        if let (Found::Nothing, Ok(text)) = (&found, utf8) {
            self.keep_cell(text);
            return ClientText::AsItCame;
        }
        let place = Place { row: self.row, column, offset_bytes: 0 };
        let mut replaced = std::mem::take(&mut self.replaced);
        replaced.clear();
        self.begin_cell();
        let sink = Sink { place, out: &mut replaced, masks: &mut self.masks };
        let changed = self.masker.replace(found, text, sink);
        let shown = if changed { &replaced[..] } else { text };
        self.end_cell(Some(shown), changed);
        self.replaced = replaced;
        match (changed, allows) {
            (false, _) => ClientText::AsItCame,
            (true, ColumnText::Typed) => ClientText::Null,
            (true, ColumnText::Any | ColumnText::Json) => ClientText::Replaced(&self.replaced),
        }
    }

    /// An ErrorResponse or NoticeResponse. Returns the fields for the client where one changed.
    pub fn diagnostic(&mut self, is_error: bool, fields: &[RawField<'_>]) -> Option<Vec<(u8, Vec<u8>)>> {
        let mut diagnostic = Diagnostic { is_error, ..Diagnostic::default() };
        let mut for_client = Vec::with_capacity(fields.len());
        let mut changed = false;
        let masks_before = self.masks.masks.len();
        self.masks.begin_value(MASKS_PER_VALUE_MAX);
        for (index, (code, text)) in fields.iter().enumerate() {
            // The message is column 0 of the masks, wherever it stands among the fields.
            let column = if *code == b'M' { 0 } else { bounded(index) + 1 };
            let text = self.replace_at(Place { column, ..Place::default() }, text, &mut changed);
            let omitted_before = diagnostic.omitted_bytes;
            let kept = Self::kept_text(&text, &mut diagnostic.omitted_bytes);
            // What the record does not keep, the client does not get.
            let cut = diagnostic.omitted_bytes > omitted_before;
            let text = if cut { kept.clone().into_bytes() } else { text };
            changed |= cut;
            match code {
                b'V' => diagnostic.severity = kept,
                b'S' if diagnostic.severity.is_empty() => diagnostic.severity = kept,
                b'C' => diagnostic.sqlstate = kept,
                b'M' => diagnostic.message = kept,
                _ => {
                    let code = char::from(*code).to_string();
                    diagnostic.fields.push(DiagnosticField { code, value: kept });
                }
            }
            for_client.push((*code, text));
        }
        let masks = self.masks.masks.split_off(masks_before);
        let texts: usize = diagnostic.fields.iter().map(|field| field.value.len() + 8).sum();
        let cost = PART_EXTRA_BYTES + diagnostic.message.len() + texts + masks.len() * MASK_EXTRA_BYTES;
        diagnostic.masks = masks;
        if is_error {
            self.end.sqlstate.clone_from(&diagnostic.sqlstate);
        }
        self.push(Part::Diagnostic(diagnostic), cost);
        changed.then_some(for_client)
    }

    /// A CommandComplete. Tags are PostgreSQL's own words; one that holds a finding is masked all the same.
    pub fn command_tag(&mut self, tag: &[u8]) -> Option<Vec<u8>> {
        let (masked, for_client) = self.lone_text(tag);
        self.end.command_tag.clone_from(&masked);
        self.push(Part::CommandTag(masked), PART_EXTRA_BYTES);
        for_client
    }

    /// A ParameterStatus. Returns the value for the client where it changed.
    pub fn setting(&mut self, name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let (value, for_client) = self.lone_text(value);
        let name = self.lone_text(name).0;
        let cost = PART_EXTRA_BYTES + name.len() + value.len();
        self.push(Part::Setting(Setting { name, value }), cost);
        for_client
    }

    /// A NotificationResponse. Returns channel and payload for the client where one changed.
    pub fn notification(
        &mut self,
        process_id: u32,
        channel: &[u8],
        payload: &[u8],
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let (channel_text, channel_changed) = self.lone_text(channel);
        let (payload_text, payload_changed) = self.lone_text(payload);
        let cost = PART_EXTRA_BYTES + channel_text.len() + payload_text.len();
        let notification = Notification { process_id, channel: channel_text, payload: payload_text };
        self.push(Part::Notification(notification), cost);
        (channel_changed.is_some() || payload_changed.is_some()).then(|| {
            (
                channel_changed.unwrap_or_else(|| channel.to_vec()),
                payload_changed.unwrap_or_else(|| payload.to_vec()),
            )
        })
    }

    /// A ParameterDescription.
    pub fn parameter_types(&mut self, type_oids: Vec<u32>) {
        let cost = PART_EXTRA_BYTES + type_oids.len() * 5;
        self.push(Part::ParameterTypes(ParameterTypes { type_oids }), cost);
    }

    /// PortalSuspended: a row limit was met.
    pub fn portal_suspended(&mut self) {
        self.push(Part::PortalSuspended(true), PART_EXTRA_BYTES);
    }

    /// EmptyQueryResponse.
    pub fn empty_query(&mut self) {
        self.push(Part::EmptyQuery(true), PART_EXTRA_BYTES);
    }

    /// Appends a cell, over as many events as it takes.
    fn push_cell(&mut self, text: Option<&str>, escaped: bool) {
        let masks_bytes = self.masks.masks.len() * MASK_EXTRA_BYTES;
        if self.filled_bytes + masks_bytes + CELL_EXTRA_BYTES > CHUNK_BYTES_MAX {
            self.seal_within_row(false);
        }
        let Some(mut rest) = text else {
            self.open_rows().cell_bytes.push(-1);
            self.filled_bytes += CELL_EXTRA_BYTES;
            return;
        };
        loop {
            let room = CHUNK_BYTES_MAX.saturating_sub(self.filled_bytes + CELL_EXTRA_BYTES);
            let (now, later) = rest.split_at(rest.floor_char_boundary(room));
            let rows = self.open_rows();
            rows.cells.push_str(now);
            rows.cell_bytes.push(i32::try_from(now.len()).expect("bounded by the size of an event"));
            rows.escaped |= escaped;
            self.filled_bytes += now.len() + CELL_EXTRA_BYTES;
            if later.is_empty() {
                return;
            }
            rest = later;
            self.seal_within_row(true);
        }
    }

    fn open_rows(&mut self) -> &mut ResultRows {
        self.rows.as_mut().expect("a cell comes between begin_row and the end of its row")
    }

    /// Seals in the middle of a row, and goes on with the same row in the next event.
    fn seal_within_row(&mut self, within_cell: bool) {
        let column_count = self.open_rows().column_count;
        // Masks of the cell that is being written belong to the event it ends in.
        let row = self.row;
        let of_cell =
            self.masks.masks.iter().rposition(|mask| mask.row != row || mask.column + 1 != self.column);
        let pending = self.masks.masks.split_off(of_cell.map_or(0, |last| last + 1));
        let fingerprints = self.masks.fingerprints.clone();
        self.seal();
        self.row = 0;
        self.begins_within_row = true;
        self.rows = Some(ResultRows { column_count, continued: within_cell, ..ResultRows::default() });
        for mut mask in pending {
            mask.row = 0;
            mask.fingerprint_index = mask
                .fingerprint_index
                .and_then(|index| fingerprints.order.get(index as usize))
                .map(|fingerprint| self.masks.fingerprints.index_of(*fingerprint));
            self.masks.masks.push(mask);
        }
    }

    fn close_rows(&mut self) {
        if let Some(mut rows) = self.rows.take() {
            rows.masks = std::mem::take(&mut self.masks.masks);
            self.filled_bytes += rows.masks.len() * MASK_EXTRA_BYTES;
            self.parts.push(ResponsePart { part: Some(Part::Rows(rows)) });
        }
    }

    fn push(&mut self, part: Part, cost: usize) {
        let left_out = match part {
            Part::Setting(_) | Part::Notification(_) => false,
            _ => self.record == RecordResponses::None,
        };
        if left_out {
            return;
        }
        self.close_rows();
        if self.filled_bytes + cost > CHUNK_BYTES_MAX {
            self.seal();
        }
        self.filled_bytes += cost;
        self.parts.push(ResponsePart { part: Some(part) });
    }

    fn seal(&mut self) {
        let content = self.take_content();
        if !content.parts.is_empty() {
            self.full.push(content);
        }
    }

    fn take_content(&mut self) -> ResponseContent {
        self.close_rows();
        self.filled_bytes = 0;
        let fingerprints: Vec<Bytes> = self.masks.fingerprints.take();
        ResponseContent { parts: std::mem::take(&mut self.parts), fingerprints }
    }

    /// Replaces within a text that has no place of its own. `None` if nothing was found.
    fn replace(&mut self, text: &[u8]) -> Option<&[u8]> {
        self.replaced.clear();
        let mut unlisted = MaskList::default();
        let sink = Sink { place: Place::default(), out: &mut self.replaced, masks: &mut unlisted };
        let changed = self.masker.mask_said_into(text, ColumnText::Any, sink);
        changed.then_some(&self.replaced)
    }

    fn replace_at(&mut self, place: Place, text: &[u8], changed: &mut bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let sink = Sink { place, out: &mut out, masks: &mut self.masks };
        if self.masker.mask_said_into(text, ColumnText::Any, sink) {
            *changed = true;
            return out;
        }
        text.to_vec()
    }

    /// The text for the record, and for the client where it changed.
    fn lone_text(&mut self, text: &[u8]) -> (String, Option<Vec<u8>>) {
        let masked = self.replace(text).map(<[u8]>::to_vec);
        let mut omitted_bytes = 0;
        let kept = Self::kept_text(masked.as_deref().unwrap_or(text), &mut omitted_bytes);
        // What the record does not keep, the client does not get.
        let for_client = if omitted_bytes > 0 { Some(kept.clone().into_bytes()) } else { masked };
        (kept, for_client)
    }

    /// As much of a text as the record keeps; the rest is counted.
    fn kept_text(text: &[u8], omitted_bytes: &mut u64) -> String {
        let (mut text, _) = into_text(text);
        if text.len() > DIAGNOSTIC_TEXT_BYTES_MAX {
            let keep = text.floor_char_boundary(DIAGNOSTIC_TEXT_BYTES_MAX);
            let omitted = text.len() - keep;
            *omitted_bytes += omitted as u64;
            text.truncate(keep);
            text.push_str(&format!(" …[{omitted} bytes omitted]"));
        }
        text
    }
}

/// Bytes as PostgreSQL prints a bytea: `\x` and hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("\\x");
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
    }
    text
}
