//! A timeline as JSON, one object per item: `retrace replay --format json`.
//!
//! Every object has `item` (its kind) and, where the item has them, `seq` (its place in the stream), `at` (RFC 3339, UTC,
//! microseconds). The kinds and their further members:
//!
//! | `item` | members |
//! |---|---|
//! | `opened` | `session_id`, `principal` {`name`, `kind`, `on_behalf_of`, `token_id`}, `target`, `protocol`, `durability`, `client_address`, `tls_version`, `server_version`, `target_user`, `asserted` {name: value}, `continues` |
//! | `command` | `asked`, `copied` and `response`, `omitted` {`data_bytes`, `rows`, `row_bytes`}, `refusal`, `end`; `asked`, `refusal` and `end` are null if not recorded |
//! | `async` | `response` |
//! | `cancel` | |
//! | `closed` | `reason`, `commands`, `client_bytes`, `target_bytes` |
//! | `note` | `event_type`, `foreign`, `text` |
//! | `gap` | `from_inclusive`, `to_exclusive` |
//! | `broken_chain`, `after_end` | |
//! | `conflict`, `duplicate` | `offset` |
//! | `unreadable` | `offset`, `reason` |
//! | `foreign_stream` | `offset`, `stream_id` |
//! | `missing_end` | `next_seq` |
//! | `no_records` | |
//!
//! `asked`: `kind`, `statement`, `escaped`, `statement_name`, `portal_name`, `parameters` [{`type_oid`, `format`, `value`,
//! `hex`}], `decision` {`effect`, `rule`, `reason`}, `policy_version`, `command_bytes`, `row_limit`, `masks`,
//! `masks_omitted`, `omitted_chunks` [[from, to)], `begin_missing`. `end`: `at`, `status`, `command_tag`, `sqlstate`,
//! `rows`, `response_bytes`, `duration_us`, `transaction_status`. `refusal`: `at`, `reason`, `forwarded`, `sqlstate`,
//! `rule`.
//!
//! `copied` (data of a COPY FROM STDIN) and `response` are lists of objects with one member each: `rows` {`columns` [{`name`, `type_oid`, `type_modifier`,
//! `origin_table_oid`, `origin_column`, `format`}], `rows` [[text or null]], `masks`, `masks_omitted`, `escaped`}, `error`
//! or `notice` {`severity`, `sqlstate`, `message`, `fields` {code: value}, `omitted_bytes`}, `tag`, `setting` {`name`, `value`},
//! `notification` {`process_id`, `channel`, `payload`}, `suspended`, `empty_query`, `parameter_types`, `omitted_chunks`
//! [from, to), `unplaced_cells`, `unreadable`. Members are only ever added.

use retrace_proto::{Id, wire};
use serde_json::{Map, Value, json};

use crate::text::words;
use crate::{Asked, Command, Damage, Item, MaskedCell, ResponseItem, ResultSet, time};

/// One item as an object.
#[must_use]
pub fn object(item: &Item) -> Value {
    match item {
        Item::Opened { seq, at_unix_us, header, opened } => {
            placed("opened", *seq, *at_unix_us, session(header, opened))
        }
        Item::Command(it) => placed("command", it.seq, it.at_unix_us, command(it)),
        Item::Async { seq, at_unix_us, response: it } => {
            placed("async", *seq, *at_unix_us, json!({ "response": response(it) }))
        }
        Item::Cancel { seq, at_unix_us } => placed("cancel", *seq, *at_unix_us, json!({})),
        Item::Closed { seq, at_unix_us, closed } => {
            let facts = json!({
                "reason": word(closed.reason().as_str_name()),
                "commands": closed.commands,
                "client_bytes": closed.client_bytes,
                "target_bytes": closed.target_bytes,
            });
            placed("closed", *seq, *at_unix_us, facts)
        }
        Item::Note(note) => {
            let facts = json!({ "event_type": note.event_type, "foreign": note.foreign, "text": note.text });
            placed("note", note.seq, note.at_unix_us, facts)
        }
        Item::Damage(it) => damage(it),
    }
}

fn placed(item: &str, seq: u64, at_unix_us: i64, facts: Value) -> Value {
    let mut object = json!({ "item": item, "seq": seq, "at": time::rfc3339(at_unix_us) });
    if let (Value::Object(object), Value::Object(facts)) = (&mut object, facts) {
        object.extend(facts);
    }
    object
}

fn session(header: &wire::Header, opened: &wire::SessionOpened) -> Value {
    let principal = header.principal.as_ref().map(|principal| {
        json!({
            "name": principal.name,
            "kind": word(principal.kind().as_str_name()),
            "on_behalf_of": principal.on_behalf_of,
            "token_id": principal.token_id,
        })
    });
    let asserted: Map<String, Value> =
        opened.asserted.iter().map(|it| (it.name.clone(), Value::from(it.value.as_str()))).collect();
    json!({
        "session_id": id(&header.session_id),
        "principal": principal,
        "target": header.target,
        "protocol": word(header.protocol().as_str_name()),
        "durability": word(header.durability().as_str_name()),
        "client_address": opened.client_address,
        "tls_version": opened.tls_version,
        "server_version": opened.server_version,
        "target_user": opened.target_user,
        "asserted": asserted,
        "continues": id(&opened.continues),
    })
}

fn command(command: &Command) -> Value {
    let refusal = command.refusal.as_ref().map(|refusal| {
        json!({
            "at": time::rfc3339(refusal.at_unix_us),
            "reason": word(refusal.refused.reason().as_str_name()),
            "forwarded": word(refusal.refused.forwarded().as_str_name()),
            "sqlstate": refusal.refused.sqlstate,
            "rule": refusal.refused.rule,
        })
    });
    let end = command.end.as_ref().map(|end| {
        json!({
            "at": time::rfc3339(end.at_unix_us),
            "status": word(end.status.as_str_name()),
            "command_tag": end.command_tag,
            "sqlstate": end.sqlstate,
            "rows": end.rows,
            "response_bytes": end.response_bytes,
            "duration_us": end.duration_us,
            "transaction_status": end.transaction_status,
        })
    });
    json!({
        "asked": command.asked.as_ref().map(asked),
        "copied": response(&command.copied),
        "response": response(&command.response),
        "omitted": {
            "data_bytes": command.omitted.data_bytes,
            "rows": command.omitted.rows,
            "row_bytes": command.omitted.row_bytes,
        },
        "refusal": refusal,
        "end": end,
    })
}

fn asked(asked: &Asked) -> Value {
    let parameters = asked.parameters.iter().map(|it| {
        json!({ "type_oid": it.type_oid, "format": format(it.wire_format()), "value": it.value, "hex": it.hex })
    });
    let masks = asked.masks.iter().map(|mask| {
        json!({
            "in": if mask.row == 0 { "statement" } else { "parameter" },
            "column": mask.column,
            "start_inclusive": mask.start_inclusive,
            "end_exclusive": mask.end_exclusive,
            "kind": word(mask.kind().as_str_name()),
            "action": word(mask.action().as_str_name()),
            "rule": mask.rule,
        })
    });
    let decision = asked
        .decision
        .as_ref()
        .map(|it| json!({ "effect": word(it.effect().as_str_name()), "rule": it.rule, "reason": it.reason }));
    let omitted = asked.omitted_chunks.iter().map(|chunks| json!([chunks.start, chunks.end]));
    json!({
        "kind": word(asked.kind.as_str_name()),
        "statement": asked.statement,
        "escaped": asked.escaped,
        "statement_name": asked.statement_name,
        "portal_name": asked.portal_name,
        "parameters": parameters.collect::<Vec<_>>(),
        "decision": decision,
        "policy_version": asked.policy_version,
        "command_bytes": asked.command_bytes,
        "row_limit": asked.row_limit,
        "masks": masks.collect::<Vec<_>>(),
        "masks_omitted": asked.masks_omitted,
        "omitted_chunks": omitted.collect::<Vec<_>>(),
        "begin_missing": asked.begin_missing,
    })
}

fn response(items: &[ResponseItem]) -> Vec<Value> {
    items.iter().map(response_item).collect()
}

fn response_item(item: &ResponseItem) -> Value {
    match item {
        ResponseItem::Rows(set) => json!({ "rows": result_set(set) }),
        ResponseItem::Diagnostic(it) => {
            let fields: Map<String, Value> = it
                .fields
                .iter()
                .map(|field| (field.code.clone(), Value::from(field.value.as_str())))
                .collect();
            let facts = json!({
                "severity": it.severity, "sqlstate": it.sqlstate, "message": it.message, "fields": fields,
                "omitted_bytes": it.omitted_bytes,
            });
            if it.is_error { json!({ "error": facts }) } else { json!({ "notice": facts }) }
        }
        ResponseItem::Tag(tag) => json!({ "tag": tag }),
        ResponseItem::Setting(it) => json!({ "setting": { "name": it.name, "value": it.value } }),
        ResponseItem::Notification(it) => json!({
            "notification": { "process_id": it.process_id, "channel": it.channel, "payload": it.payload },
        }),
        ResponseItem::Suspended => json!({ "suspended": true }),
        ResponseItem::EmptyQuery => json!({ "empty_query": true }),
        ResponseItem::ParameterTypes(oids) => json!({ "parameter_types": oids }),
        ResponseItem::OmittedChunks(chunks) => json!({ "omitted_chunks": [chunks.start, chunks.end] }),
        ResponseItem::UnplacedCells(cells) => json!({ "unplaced_cells": cells }),
        ResponseItem::Unreadable(what) => json!({ "unreadable": what }),
    }
}

fn result_set(set: &ResultSet) -> Value {
    let columns = set.columns.iter().map(|column| {
        json!({
            "name": column.name,
            "type_oid": column.type_oid,
            "type_modifier": column.type_modifier,
            "origin_table_oid": column.origin_table_oid,
            "origin_column": column.origin_column,
            "format": format(column.wire_format()),
        })
    });
    json!({
        "columns": columns.collect::<Vec<_>>(),
        "rows": set.rows,
        "masks": set.masks.iter().map(masked_cell).collect::<Vec<_>>(),
        "masks_omitted": set.masks_omitted,
        "escaped": set.escaped,
    })
}

fn masked_cell(mask: &MaskedCell) -> Value {
    json!({
        "row": mask.row,
        "column": mask.column,
        "kind": word(mask.kind.as_str_name()),
        "action": word(mask.action.as_str_name()),
        "rule": mask.rule,
    })
}

fn damage(damage: &Damage) -> Value {
    match damage {
        Damage::Gap { from_inclusive, to_exclusive } => {
            json!({ "item": "gap", "from_inclusive": from_inclusive, "to_exclusive": to_exclusive })
        }
        Damage::BrokenChain { seq } => json!({ "item": "broken_chain", "seq": seq }),
        Damage::Conflict { seq, offset } => json!({ "item": "conflict", "seq": seq, "offset": offset }),
        Damage::Duplicate { seq, offset } => json!({ "item": "duplicate", "seq": seq, "offset": offset }),
        Damage::Unreadable { offset, reason } => {
            json!({ "item": "unreadable", "offset": offset, "reason": reason })
        }
        Damage::ForeignStream { offset, stream_id } => {
            json!({ "item": "foreign_stream", "offset": offset, "stream_id": stream_id.to_string() })
        }
        Damage::AfterEnd { seq } => json!({ "item": "after_end", "seq": seq }),
        Damage::MissingEnd { next_seq } => json!({ "item": "missing_end", "next_seq": next_seq }),
        Damage::NoRecords => json!({ "item": "no_records" }),
    }
}

fn id(bytes: &[u8]) -> Option<String> {
    Id::from_slice(bytes).ok().map(|id| id.to_string())
}

fn format(format: wire::WireFormat) -> &'static str {
    match format {
        wire::WireFormat::Text => "text",
        wire::WireFormat::Binary => "binary",
    }
}

fn word(name: &str) -> String {
    words(name).replace(' ', "_")
}
