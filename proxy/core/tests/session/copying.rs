//! COPY and the function-call message: looked at, masked, recorded before they move on.

use retrace_proto::wire::{self, Durability, RecordResponses, envelope::Payload};

use crate::harness::*;

const CARD: &str = "4111111111111111";

fn copy_out(columns: u16) -> Vec<u8> {
    message(b'H', &[&[0][..], &columns.to_be_bytes(), &vec![0; 2 * usize::from(columns)]].concat())
}

fn copy_in(columns: u16) -> Vec<u8> {
    message(b'G', &[&[0][..], &columns.to_be_bytes(), &vec![0; 2 * usize::from(columns)]].concat())
}

fn data(text: &str) -> Vec<u8> {
    message(b'd', text.as_bytes())
}

fn chunks(bench: &Bench) -> Vec<&wire::CommandChunk> {
    let chunks = bench.log.iter().filter_map(|recorded| match recorded.payload() {
        Payload::CommandChunk(chunk) => Some(chunk),
        _ => None,
    });
    chunks.collect()
}

fn cells(bench: &Bench) -> String {
    chunks(bench).iter().flat_map(|chunk| &chunk.copy_rows).map(|rows| rows.cells.as_str()).collect()
}

#[test]
fn rows_that_are_copied_out_are_masked_and_recorded_before_they_go() {
    let mut bench = Bench::open();
    bench.client(&query("copy t to stdout"));
    assert_eq!(tags(&bench.take_target()), "Q");
    bench.log_is_healthy = false;
    bench.target(&[copy_out(2), data("1\tplain\n"), data(&format!("2\t{CARD}\\n\n"))].concat());
    bench.target(&[message(b'c', b""), complete("COPY 2"), ready(b'I')].concat());
    assert_eq!(bench.to_client, b"", "nothing before its record");
    bench.make_durable();
    let client = bench.take_client();
    assert_eq!(tags(&client), "HddcCZ");
    assert!(contains(&client, b"1\tplain\n") && contains(&client, b"2\t************1111\\n\n"));
    assert!(!contains(&client, CARD.as_bytes()) && !bench.recorded(CARD));
    let completed = bench.completions()[0];
    assert_eq!((completed.rows, completed.command_tag.as_str()), (2, "COPY 2"));
}

#[test]
fn a_row_that_is_split_over_messages_is_looked_at_whole() {
    let mut bench = Bench::open();
    bench.client(&query("copy t to stdout (format csv)"));
    bench.target(&[copy_out(1), data("\"4111 1111 "), data("1111 1111\"\nnext")].concat());
    bench.target(&[data(" row\n"), message(b'c', b""), complete("COPY 2"), ready(b'I')].concat());
    let client = bench.take_client();
    assert!(contains(&client, b"1111\"\n") && contains(&client, b"next row\n"));
    assert!(!contains(&client, b"4111 1111 ") && !contains(&client, b"1111 1111"));
}

#[test]
fn a_header_names_the_columns_and_is_masked_as_names_are() {
    let mut bench = Bench::open();
    bench.client(&query("copy t to stdout (format csv, header)"));
    let lines = [data(&format!("id,\"{CARD}\"\n")), data("1,x\n")].concat();
    bench.target(&[copy_out(2), lines, message(b'c', b""), complete("COPY 1"), ready(b'I')].concat());
    let client = bench.take_client();
    assert!(contains(&client, b"\"id\",\"************1111\"\n") && contains(&client, b"1,x\n"));
    let completed = bench.completions()[0];
    let Some(wire::response_part::Part::Columns(columns)) = &completed.parts[0].part else {
        panic!("columns come first")
    };
    let names: Vec<_> = columns.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!((names, completed.rows), (vec!["id", "************1111"], 1));
}

#[test]
fn data_that_is_copied_in_goes_behind_its_record() {
    let mut bench = Bench::open();
    bench.client(&query("copy t from stdin"));
    bench.target(&copy_in(2));
    assert_eq!(tags(&bench.take_client()), "G");
    bench.take_target();
    bench.log_is_healthy = false;
    bench.client(&[data(&format!("1\t{CARD}\n2\tx")), data("y\n"), message(b'c', b"")].concat());
    assert_eq!(bench.to_target, b"", "nothing before its record");
    bench.make_durable();
    let target = bench.take_target();
    assert_eq!(tags(&target), "dc");
    assert!(contains(&target, format!("1\t{CARD}\n2\txy\n").as_bytes()), "the target gets what was sent");
    assert!(!bench.recorded(CARD));
    assert_eq!(cells(&bench), "1************11112xy");
    bench.log_is_healthy = true;
    bench.target(&[complete("COPY 2"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_client()), "CZ");
}

#[test]
fn a_sync_sent_along_with_a_copy_is_dropped_by_the_target_and_forgotten_here() {
    let mut bench = Bench::open();
    let asked = [parse("", "copy t from stdin", &[]), bind("", 0, &[], 0), execute(), sync()];
    bench.client(&asked.concat());
    let answer = [PARSED.to_vec(), BOUND.to_vec(), message(b'n', b""), copy_in(1)];
    bench.target(&answer.concat());
    assert_eq!(tags(&bench.take_client()), "12G");
    bench.client(&[data("1\n"), message(b'c', b""), sync()].concat());
    bench.target(&[complete("COPY 1"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_client()), "CZ");
    bench.client(&query("select 1"));
    bench.target(&[complete("SELECT 0"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_client()), "CZ");
}

#[test]
fn a_copy_that_fails_at_the_target_ends_there_whatever_the_client_still_sends() {
    let mut bench = Bench::open();
    bench.client(&query("copy t from stdin"));
    bench.target(&copy_in(1));
    bench.client(&data("bad\n"));
    bench.target(&[error("22P02", "invalid input"), ready(b'I')].concat());
    bench.client(&[data("more\n"), message(b'c', b""), query("select 1")].concat());
    bench.target(&[complete("SELECT 0"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_client()), "GEZCZ");
    assert!(!bench.closed);
}

#[test]
fn messages_behind_a_copy_from_the_client_wait_until_the_target_has_said_what_they_are() {
    let mut bench = Bench::open();
    bench.client(&[query("copy t from stdin"), query("select 1")].concat());
    assert_eq!(tags(&bench.take_target()), "Q");
    bench.target(&[error("42P01", "no such table"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_target()), "Q");
}

#[test]
fn each_copy_of_a_query_begins_in_its_turn_where_nothing_is_masked() {
    let mut bench = Bench::opening(false);
    bench.settle();
    bench.take_client();
    bench.client(&query("copy t from stdin; copy t to stdout; copy u from stdin (format csv); select 1"));
    bench.take_target();
    bench.target(&copy_in(1));
    // The end of the first COPY says nothing of what follows: that is data of the next one, once the target has begun it.
    bench.client(&[data("one\n"), message(b'c', b""), data("two\n"), message(b'c', b"")].concat());
    assert_eq!(tags(&bench.take_target()), "dc");
    let out = [complete("COPY 1"), copy_out(1), data("row\n"), message(b'c', b""), complete("COPY 1")];
    bench.target(&[out.concat(), copy_in(1)].concat());
    assert_eq!(tags(&bench.take_target()), "dc");
    bench.target(&[complete("COPY 1"), complete("SELECT 0"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_client()), "GCHdcCGCCZ");
    assert_eq!(cells(&bench), "onetwo");
    let indexes: Vec<_> = chunks(&bench).iter().map(|chunk| chunk.chunk_index).collect();
    assert_eq!(indexes, [0, 1], "the chunks of one command are counted through");
    assert!(!bench.closed);
}

#[test]
fn a_copy_that_no_statement_asked_for_ends_the_session() {
    let mut bench = Bench::opening(false);
    bench.settle();
    bench.client(&query("copy t to stdout; select 1"));
    let once = [copy_out(1), message(b'c', b""), complete("COPY 0")].concat();
    bench.target(&once);
    assert!(!bench.closed);
    bench.target(&once);
    assert!(bench.closed);
}

#[test]
fn more_copy_data_than_is_recorded_is_refused() {
    let mut bench = Bench::opening_with(true, |opening| opening.limits.command_recorded_bytes_max = 8);
    bench.settle();
    bench.client(&query("copy t from stdin"));
    bench.target(&copy_in(1));
    bench.take_target();
    bench.client(&[data("1234\n"), data("5678\n"), data("9\n"), message(b'c', b"")].concat());
    let target = bench.take_target();
    assert_eq!(tags(&target), "df");
    assert!(!contains(&target, b"5678"));
    assert_eq!(bench.refusals()[0].sqlstate, "54000");
    bench.target(&[error("57014", "COPY from stdin failed"), ready(b'I')].concat());
    bench.client(&query("select 1"));
    assert_eq!(tags(&bench.take_target()), "Q", "the session goes on");
}

#[test]
fn more_copy_data_than_is_recorded_passes_counted_where_the_configuration_says_so() {
    let mut bench = Bench::opening_with(true, |opening| {
        opening.limits.command_recorded_bytes_max = 8;
        opening.recording.beyond = retrace_proxy_core::postgres::Beyond::Omit;
    });
    bench.settle();
    bench.client(&query("copy t from stdin"));
    bench.target(&copy_in(1));
    bench.take_target();
    bench.client(&[data("1234\n"), data("5678\n"), data("9\n"), message(b'c', b"")].concat());
    let target = bench.take_target();
    assert_eq!(tags(&target), "dc");
    assert!(contains(&target, b"1234\n5678\n9\n"));
    let omitted = bench.log.iter().find_map(|recorded| match recorded.payload() {
        Payload::CommandOmitted(omitted) => Some(omitted),
        _ => None,
    });
    assert_eq!(omitted.expect("it is said").data_bytes, 7);
    assert_eq!(cells(&bench), "1234");
}

#[test]
fn a_function_call_is_a_command_with_its_value_as_the_response() {
    let mut bench = Bench::open();
    let call = [&1234_u32.to_be_bytes()[..], b"\0\0\0\x01\0\0\0\x05hello\0\0"].concat();
    bench.client(&message(b'F', &call));
    assert_eq!(tags(&bench.take_target()), "F");
    let value = [&16_u32.to_be_bytes()[..], CARD.as_bytes()].concat();
    bench.target(&[message(b'V', &value), ready(b'I')].concat());
    let client = bench.take_client();
    assert_eq!(tags(&client), "VZ");
    assert!(contains(&client, b"************1111"));
    let command = bench.commands()[0];
    assert_eq!(command.kind(), wire::command_received::Kind::FunctionCall);
    assert_eq!(command.parameters[0].value.as_deref(), Some("hello"));
    assert!(!bench.recorded(CARD));
}

#[test]
fn rows_that_are_not_recorded_are_counted_and_hashed_before_they_go() {
    for (responses, kept) in [
        (RecordResponses::MaskedOnly, "************1111"),
        (RecordResponses::Shape, ""),
        (RecordResponses::None, ""),
    ] {
        let mut bench = Bench::opening_with(true, |opening| opening.recording.responses = responses);
        bench.settle();
        bench.take_client();
        bench.client(&query("select 1"));
        bench.log_is_healthy = false;
        let rows = [row(&[Some(b"secret")]), row(&[Some(CARD.as_bytes())])].concat();
        let answer = [row_description(&[("a", 25, 0)]), rows.clone(), complete("SELECT 2"), ready(b'I')];
        bench.target(&answer.concat());
        assert_eq!(bench.to_client, b"", "nothing before its record");
        bench.make_durable();
        let client = bench.take_client();
        assert_eq!(tags(&client), "TDDCZ");
        assert!(contains(&client, b"secret") && !contains(&client, CARD.as_bytes()));
        assert!(!bench.recorded("secret") && !bench.recorded(CARD));
        assert_eq!(bench.recorded("************1111"), !kept.is_empty());
        let omitted = bench.log.iter().find_map(|recorded| match recorded.payload() {
            Payload::ResponseOmitted(omitted) => Some(omitted),
            _ => None,
        });
        let omitted = omitted.expect("it is said");
        assert_eq!((omitted.rows, omitted.row_bytes), (2, rows.len() as u64));
        assert_eq!(bench.completions()[0].rows, 2);
    }
}

#[test]
fn with_durability_command_the_response_does_not_wait_and_the_command_does() {
    let mut bench = Bench::opening_with(true, |opening| opening.subject.durability = Durability::Command);
    bench.settle();
    bench.take_client();
    bench.log_is_healthy = false;
    bench.client(&query("select 1"));
    assert_eq!(bench.to_target, b"");
    bench.make_durable();
    assert_eq!(tags(&bench.take_target()), "Q");
    bench.target(&[complete("SELECT 0"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_client()), "CZ");
    assert_eq!(bench.events().last(), Some(&"command_completed"), "it is recorded all the same");
    assert_eq!(bench.awaited, [true, true, false], "the log may take its time for what nothing waits for");
    let asked = [parse("", "select 1", &[]), bind("", 0, &[], 0), execute(), message(b'H', b"")].concat();
    bench.client(&asked);
    bench.make_durable();
    bench.take_target();
    bench.target(&[PARSED.to_vec(), BOUND.to_vec(), message(b'n', b""), complete("SELECT 0")].concat());
    bench.client(&sync());
    assert_eq!(tags(&bench.take_target()), "S", "nor does what follows wait for the record of a response");
}

#[test]
fn with_durability_relaxed_nothing_waits_until_the_record_lags_too_far() {
    let mut bench = Bench::opening_with(true, |opening| opening.subject.durability = Durability::Relaxed);
    bench.log_is_healthy = false;
    bench.settle();
    assert_eq!(tags(&bench.take_client()), "RSSKZ");
    bench.client(&query("select 1"));
    assert_eq!(tags(&bench.take_target()), "Q");
    bench.target(&[complete("SELECT 0"), ready(b'I')].concat());
    assert_eq!(tags(&bench.take_client()), "CZ");
    bench.deadline();
    assert!(!bench.session.wants_client_bytes(), "a second behind, neither side is listened to");
    bench.make_durable();
    assert!(bench.session.wants_client_bytes());
    bench.client(&query("select 2"));
    assert_eq!(tags(&bench.take_target()), "Q");
    bench.deadline();
    bench.target(&[complete("SELECT 0"), ready(b'I')].concat());
    assert_eq!(bench.take_client(), b"", "and nothing passes");
    bench.deadline();
    assert!(bench.closed, "a record that is not durable in time ends the session");
    assert!(bench.awaited.iter().all(|awaited| !awaited));
    assert!(contains(&bench.take_client(), b"C08007\0"));
}

#[test]
fn data_whose_options_would_cut_it_elsewhere_than_it_reads_is_refused() {
    for statement in [
        r"copy (select null, ssn from t) to stdout (null E'\\')",
        r"copy t to stdout (format csv, quote E'\n', force_quote *)",
        r"copy t to stdout (format csv, escape E'\r')",
    ] {
        let mut bench = Bench::open();
        bench.client(&query(statement));
        assert_eq!(tags(&bench.take_target()), "BS", "{statement}");
        assert_eq!(bench.commands()[0].decision.as_ref().expect("decided").rule, "builtin.copy_unreadable");
    }
    let mut bench = Bench::opening_with(true, |opening| {
        opening.greeting.settings.push(("client_encoding".into(), "SJIS".into()));
    });
    bench.settle();
    bench.client(&query("copy t to stdout"));
    assert_eq!(tags(&bench.take_target()), "BS", "a byte of a character can be a backslash there");
}

#[test]
fn commands_behind_the_end_of_a_copy_go_on_at_once() {
    let mut bench = Bench::open();
    bench.client(&[parse("", "copy t from stdin", &[]), bind("", 0, &[], 0), execute()].concat());
    bench.target(&[PARSED.to_vec(), BOUND.to_vec(), message(b'n', b""), copy_in(1)].concat());
    bench.take_target();
    let next = [parse("", "select 1", &[]), bind("", 0, &[], 0), execute(), sync()].concat();
    bench.client(&[data("1\n"), message(b'c', b""), next].concat());
    assert_eq!(tags(&bench.take_target()), "dcPBDES");
}

#[test]
fn a_copy_that_fails_before_it_reads_leaves_the_clients_sync_to_end_it() {
    let mut bench = Bench::open();
    bench.client(&[parse("", "copy t from stdin", &[]), bind("", 0, &[], 0), execute(), sync()].concat());
    assert_eq!(tags(&bench.take_target()), "PBDE", "whether the target drops the Sync is not known yet");
    bench.target(&error("42P01", "no such table"));
    assert_eq!(tags(&bench.take_target()), "S");
    bench.target(&ready(b'I'));
    assert_eq!(tags(&bench.take_client()), "EZ");
}
