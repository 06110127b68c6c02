//! A timeline as a terminal shows it, close to what psql would have shown whoever was there.
//!
//! Every recorded text passes through [`crate::safe`]: the only escape sequences that come out are this module's colours.

mod response;

use std::fmt::Write;
use std::ops::Range;

use retrace_proto::wire::{self, command_received::Kind};

use crate::look::Tint;
use crate::{Asked, Command, CommandEnd, Damage, Item, Look, Note, Omitted, Refusal, Timeline, safe, time};

/// What is shown of one statement, in bytes; `--format json` has all of it.
const STATEMENT_SHOWN_BYTES_MAX: usize = 64 * 1024;

/// What is shown of one parameter, in bytes.
const PARAMETER_SHOWN_BYTES_MAX: usize = 1024;

/// Draws the items of one timeline.
#[derive(Clone, Debug)]
pub struct Renderer {
    look: Look,
    prompt: String,
}

impl Renderer {
    /// For the items of `timeline`, whose target's name stands in the prompt.
    #[must_use]
    pub fn new(timeline: &Timeline, look: Look) -> Self {
        let target = timeline.items().iter().find_map(|item| match item {
            Item::Opened { header, .. } => Some(header.target.as_str()),
            _ => None,
        });
        Self { look, prompt: safe::line(target.unwrap_or("?")) }
    }

    /// What an item shows, in steps: the time of each, if it has one, and its text.
    #[must_use]
    pub fn steps(&self, item: &Item) -> Vec<(Option<i64>, String)> {
        match item {
            Item::Opened { at_unix_us, header, opened, .. } => {
                vec![(Some(*at_unix_us), self.opened(*at_unix_us, header, opened))]
            }
            Item::Command(command) => self.command(command),
            Item::Async { at_unix_us, response, .. } => {
                let mut out = self.aside(*at_unix_us, "the target says unasked:");
                self.response(response, None, &mut out);
                vec![(Some(*at_unix_us), out)]
            }
            Item::Cancel { at_unix_us, .. } => {
                vec![(Some(*at_unix_us), self.aside(*at_unix_us, "a cancel request goes to the target"))]
            }
            Item::Closed { at_unix_us, closed, .. } => {
                vec![(Some(*at_unix_us), self.closed(*at_unix_us, closed))]
            }
            Item::Note(note) => vec![(None, self.note(note))],
            Item::Damage(damage) => vec![(None, self.damage(damage))],
        }
    }

    fn opened(&self, at_unix_us: i64, header: &wire::Header, opened: &wire::SessionOpened) -> String {
        let id = retrace_proto::Id::from_slice(&header.session_id);
        let mut out = id.map_or_else(|_| "Session".to_owned(), |id| format!("Session {id}"));
        out = self.look.paint(Tint::Statement, &out) + "\n";
        let mut row = |name: &str, value: String| {
            writeln!(out, "  {name:<8} {value}").expect("a String takes all");
        };
        row("who", header.principal.as_ref().map_or_else(|| "unknown".to_owned(), who));
        row("target", target(header, opened));
        let tls = if opened.tls_version.is_empty() { "no TLS" } else { &opened.tls_version };
        row("from", format!("{}, {}", safe::line(&opened.client_address), safe::line(tls)));
        row("when", time::date_and_time(at_unix_us));
        for asserted in &opened.asserted {
            row("says", format!("{} = {}", safe::line(&asserted.name), safe::line(&asserted.value)));
        }
        if let Ok(before) = retrace_proto::Id::from_slice(&opened.continues) {
            row("goes on", format!("from session {before}"));
        }
        out + "\n"
    }

    fn command(&self, command: &Command) -> Vec<(Option<i64>, String)> {
        let asked = match &command.asked {
            Some(asked) => self.asked(command, asked),
            None => {
                let head = self.aside(command.at_unix_us, &format!("#{}", command.seq));
                head + &self.missing("what was asked: its record is missing")
            }
        };
        let mut steps = vec![(Some(command.at_unix_us), asked)];
        let mut out = String::new();
        if !command.copied.is_empty() {
            out += &self.quiet("(copied in:)");
            self.response(&command.copied, None, &mut out);
        }
        self.response(&command.response, command.asked.as_ref(), &mut out);
        out += &self.omitted(&command.omitted);
        if let Some(refusal) = &command.refusal {
            out += &self.refusal(refusal);
        }
        match &command.end {
            Some(end) => out += &self.end(end),
            None if command.refusal.is_none() => {
                out += &self
                    .missing("the end of this command: whether and what the target answered is not recorded");
            }
            None => {}
        }
        let ended_at = command.end.as_ref().map(|end| end.at_unix_us);
        steps.push((ended_at.or(command.refusal.as_ref().map(|refusal| refusal.at_unix_us)), out + "\n"));
        steps
    }

    /// That something went through and is not shown, so that nobody takes what is shown for all.
    fn omitted(&self, omitted: &Omitted) -> String {
        let mut out = String::new();
        if omitted.data_bytes > 0 {
            out += &self
                .quiet(&format!("({} bytes of COPY data passed on and not recorded)", omitted.data_bytes));
        }
        if omitted.rows > 0 {
            let (rows, bytes) = (omitted.rows, omitted.row_bytes);
            let noun = if rows == 1 { "row" } else { "rows" };
            out += &self.quiet(&format!(
                "(cells of {rows} {noun}, {bytes} bytes, not recorded, as the target is configured)"
            ));
        }
        out
    }

    fn asked(&self, command: &Command, asked: &Asked) -> String {
        let mut head = format!("#{} {}", command.seq, kind(asked.kind));
        for (what, name) in [("statement", &asked.statement_name), ("portal", &asked.portal_name)] {
            if !name.is_empty() {
                write!(head, ", {what} \"{}\"", safe::line(name)).expect("a String takes all");
            }
        }
        let mut out = self.aside(command.at_unix_us, &head);
        if asked.begin_missing {
            out += &self.missing("the begin of this command: its record is missing");
        }
        self.statement(&asked.statement, &mut out);
        if !asked.parameters.is_empty() {
            let values = asked.parameters.iter().enumerate().map(|(index, it)| parameter(index, it));
            writeln!(out, "  with {}", values.collect::<Vec<_>>().join(", ")).expect("a String takes all");
        }
        for chunks in &asked.omitted_chunks {
            out += &self.missing(&format!("{} of this command", parts(chunks)));
        }
        if let Some(decision) = &asked.decision {
            out += &self.decision(decision);
        }
        out
    }

    fn statement(&self, statement: &str, out: &mut String) {
        let shown = &statement[..statement.floor_char_boundary(STATEMENT_SHOWN_BYTES_MAX)];
        for (index, line) in safe::lines(shown).enumerate() {
            let sign = if index == 0 { "=>" } else { "->" };
            let line = self.look.paint(Tint::Statement, &line);
            writeln!(out, "{}{sign} {line}", self.prompt).expect("a String takes all");
        }
        if shown.len() < statement.len() {
            let more = statement.len() - shown.len();
            *out += &self.quiet(&format!("(and {more} bytes: --format json has them)"));
        }
    }

    fn decision(&self, decision: &wire::Decision) -> String {
        use wire::decision::Effect;
        let what = match decision.effect() {
            Effect::Allow | Effect::Unspecified => return String::new(),
            Effect::Deny => "denied",
            Effect::Hold => "held for review",
        };
        let rule = safe::line(&decision.rule);
        let mut text = if rule.is_empty() { what.to_owned() } else { format!("{what} by {rule}") };
        if !decision.reason.is_empty() {
            write!(text, ": {}", safe::line(&decision.reason)).expect("a String takes all");
        }
        self.look.paint(Tint::Wrong, &text) + "\n"
    }

    fn refusal(&self, refusal: &Refusal) -> String {
        use wire::command_refused::Forwarded;
        let refused = &refusal.refused;
        let forwarded = match refused.forwarded() {
            Forwarded::No => "nothing of it was forwarded",
            Forwarded::Unknown => "whether it was executed is not known",
            Forwarded::Unspecified => "whether it was forwarded is not recorded",
        };
        let mut text =
            format!("refused by the gate ({}): {forwarded}", words(refused.reason().as_str_name()));
        if !refused.rule.is_empty() {
            write!(text, ", rule {}", safe::line(&refused.rule)).expect("a String takes all");
        }
        if !refused.sqlstate.is_empty() {
            write!(text, "; the client was told {}", safe::line(&refused.sqlstate))
                .expect("a String takes all");
        }
        self.look.paint(Tint::Wrong, &text) + "\n"
    }

    fn end(&self, end: &CommandEnd) -> String {
        use wire::command_completed::Status;
        let mut text = format!("Time: {}", time::duration(end.duration_us));
        let status = match end.status {
            Status::Ok => String::new(),
            Status::Error => format!("error {}", safe::line(&end.sqlstate)),
            Status::Suspended => "the row limit was met".to_owned(),
            Status::Skipped => "skipped by the target after an earlier error".to_owned(),
            Status::Abandoned => "the session ended before the answer did".to_owned(),
            Status::Unspecified => "of an unknown status".to_owned(),
        };
        if !status.is_empty() {
            write!(text, ", {status}").expect("a String takes all");
        }
        match end.transaction_status.as_str() {
            "T" => text.push_str(", in a transaction"),
            "E" => text.push_str(", in a failed transaction"),
            _ => {}
        }
        self.quiet(&text)
    }

    fn closed(&self, at_unix_us: i64, closed: &wire::SessionClosed) -> String {
        let text = format!(
            "session closed ({}): {} commands, {} bytes from the client, {} bytes from the target",
            words(closed.reason().as_str_name()),
            closed.commands,
            closed.client_bytes,
            closed.target_bytes,
        );
        self.aside(at_unix_us, &text)
    }

    fn note(&self, note: &Note) -> String {
        let whose = if note.foreign { "of an instance" } else { "of this session" };
        let at = time::date_and_time(note.at_unix_us);
        let text = if note.text.is_empty() { String::new() } else { format!(": {}", safe::line(&note.text)) };
        self.quiet(&format!("event {} {whose}, {at}{text}", note.event_type))
    }

    fn damage(&self, damage: &Damage) -> String {
        match damage {
            Damage::Gap { from_inclusive, to_exclusive } if to_exclusive - from_inclusive == 1 => {
                self.missing(&format!("1 record, #{from_inclusive}"))
            }
            Damage::Gap { from_inclusive, to_exclusive } => {
                let (count, last) = (to_exclusive - from_inclusive, to_exclusive - 1);
                self.missing(&format!("{count} records, #{from_inclusive} to #{last}"))
            }
            Damage::BrokenChain { seq } => self.damaged(&format!(
                "record #{seq} does not follow from the one before it: one of them was changed"
            )),
            Damage::Conflict { seq, offset } => self.damaged(&format!(
                "a second record #{seq} at offset {offset} says something else; the first is shown"
            )),
            Damage::Duplicate { seq, offset } => {
                self.quiet(&format!("(record #{seq} is there twice, again at offset {offset}: harmless)"))
            }
            Damage::Unreadable { offset, reason } => {
                self.damaged(&format!("the record at offset {offset} cannot be read: {}", safe::line(reason)))
            }
            Damage::ForeignStream { offset, stream_id } => {
                self.damaged(&format!("the record at offset {offset} belongs to another stream, {stream_id}"))
            }
            Damage::AfterEnd { seq } => self.damaged(&format!("record #{seq} comes after the session's end")),
            Damage::MissingEnd { next_seq } => self.missing(&format!(
                "the session's end, #{next_seq} or later: it is still open, or its end is lost"
            )),
            Damage::NoRecords => self.missing("every record of this session"),
        }
    }

    fn missing(&self, what: &str) -> String {
        self.look.paint(Tint::Missing, &format!("~~ missing: {what} ~~")) + "\n"
    }

    fn damaged(&self, what: &str) -> String {
        self.look.paint(Tint::Missing, &format!("~~ damaged: {what} ~~")) + "\n"
    }

    fn aside(&self, at_unix_us: i64, text: &str) -> String {
        self.quiet(&format!("{}  {text}", time::time_of_day(at_unix_us)))
    }

    fn quiet(&self, text: &str) -> String {
        self.look.paint(Tint::Aside, text) + "\n"
    }
}

fn who(principal: &wire::Principal) -> String {
    let mut text = format!("{} ({})", safe::line(&principal.name), words(principal.kind().as_str_name()));
    if !principal.on_behalf_of.is_empty() {
        write!(text, " on behalf of {}", safe::line(&principal.on_behalf_of)).expect("a String takes all");
    }
    if !principal.token_id.is_empty() {
        write!(text, ", token {}", safe::line(&principal.token_id)).expect("a String takes all");
    }
    text
}

fn target(header: &wire::Header, opened: &wire::SessionOpened) -> String {
    let mut text = safe::line(&header.target);
    if !opened.target_user.is_empty() {
        write!(text, " as {}", safe::line(&opened.target_user)).expect("a String takes all");
    }
    write!(text, " ({}", words(header.protocol().as_str_name())).expect("a String takes all");
    if !opened.server_version.is_empty() {
        write!(text, " {}", safe::line(&opened.server_version)).expect("a String takes all");
    }
    write!(text, "), durability {}", words(header.durability().as_str_name())).expect("a String takes all");
    text
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::SimpleQuery => "query",
        Kind::Execute => "execute",
        Kind::Prepare => "prepare",
        Kind::FunctionCall => "function call",
        Kind::Unspecified => "command",
    }
}

fn parameter(index: usize, parameter: &wire::Parameter) -> String {
    let number = index + 1;
    let Some(value) = &parameter.value else { return format!("${number} = NULL") };
    let shown = &value[..value.floor_char_boundary(PARAMETER_SHOWN_BYTES_MAX)];
    let more = if shown.len() < value.len() { "…" } else { "" };
    let shown = safe::line(shown);
    match parameter.hex {
        true => format!("${number} = {shown}{more} (type {})", parameter.type_oid),
        false => format!("${number} = '{}'{more}", shown.replace('\'', "''")),
    }
}

fn parts(chunks: &Range<u32>) -> String {
    let last = chunks.end.saturating_sub(1);
    if chunks.start == last { format!("part {last}") } else { format!("parts {} to {last}", chunks.start) }
}

/// The words in a name such as `REASON_LOG_UNAVAILABLE`, whose first parts name the enumeration.
pub(crate) fn words(name: &str) -> String {
    const PREFIXES: [&str; 10] = [
        "REASON_",
        "FORWARDED_",
        "PRINCIPAL_KIND_",
        "PROTOCOL_",
        "DURABILITY_",
        "STATUS_",
        "EFFECT_",
        "MASK_KIND_",
        "MASK_ACTION_",
        "KIND_",
    ];
    let bare = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    bare.to_lowercase().replace('_', " ")
}
