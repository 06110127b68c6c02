use futures::StreamExt;
use retrace_proto::wire::{self, envelope::Payload};
use retrace_proto::{Envelope, Recorded};
use retrace_query::EventRecord;
use retrace_replay::{safe, time};

use crate::args::Reach;
use crate::config::Config;
use crate::evidence::Evidence;
use crate::output::Output;

/// Columns of a line where the terminal does not say.
const LINE_WIDTH_DEFAULT: usize = 200;

pub(crate) async fn tail(config: &Config, reach: &Reach, session: Option<String>) -> anyhow::Result<()> {
    let evidence = Evidence::reach(config, reach).await?;
    let shown = show(&evidence, session).await;
    evidence.close().await?;
    shown
}

async fn show(evidence: &Evidence, session: Option<String>) -> anyhow::Result<()> {
    let session = match session {
        Some(named) => Some(evidence.find_session(&named).await?),
        None => None,
    };
    let mut events = evidence.tail(session).await?.events;
    let mut out = Output::stdout();
    let width = out.look().width.unwrap_or(LINE_WIDTH_DEFAULT);
    while let Some(event) = events.next().await {
        let mut line = line(event?);
        safe::cut(&mut line, width);
        out.line(line)?;
        out.flush()?;
    }
    Ok(())
}

/// One line about an event: when, which session, who at which target, what.
fn line(record: EventRecord) -> String {
    let (at, offset) = (record.at, record.offset);
    let event = match Envelope::open(record.envelope) {
        Ok(event) => event,
        Err(error) => {
            let appended = time::time_of_day(record.appended_at_unix_us);
            return safe::line(&format!("{appended}  {at} {offset} is no event: {error}"));
        }
    };
    let header = event.header();
    let session = event.session_id().map_or_else(|| "-".to_owned(), |id| id.to_string());
    let who = header.principal.as_ref().map_or("-", |principal| principal.name.as_str());
    let target = if header.target.is_empty() { String::new() } else { format!("@{}", header.target) };
    let at = time::time_of_day(header.occurred_at_unix_us);
    safe::line(&format!(
        "{at}  {session}  #{} {who}{target}  {} {}",
        header.stream_seq,
        event.event_type(),
        about(&event)
    ))
}

fn about(event: &Recorded) -> String {
    match event.payload() {
        Payload::SessionOpened(opened) => format!("from {}", opened.client_address),
        Payload::SessionClosed(closed) => format!("after {} commands", closed.commands),
        Payload::CommandReceived(received) => {
            received.statement.as_ref().map_or_else(String::new, |statement| statement.text.clone())
        }
        Payload::CommandCompleted(completed) if !completed.sqlstate.is_empty() => {
            format!("error {} after {}", completed.sqlstate, time::duration(completed.duration_us))
        }
        Payload::CommandCompleted(completed) => {
            format!("{} in {}", completed.command_tag, time::duration(completed.duration_us))
        }
        Payload::CommandRefused(refused) => format!("told {}", refused.sqlstate),
        Payload::LoginRefused(refused) => refusal(refused),
        Payload::EvidenceRead(read) => read.statement.clone(),
        _ => String::new(),
    }
}

/// Why logins were refused, whence they came, and how many they were if several.
fn refusal(refused: &wire::LoginRefused) -> String {
    let reason = refused.reason().as_str_name().trim_start_matches("REASON_").to_lowercase();
    let source = match refused.client_address.as_str() {
        "" => "several addresses",
        address => address,
    };
    match refused.count {
        0 | 1 => format!("for {reason} from {source}"),
        count => format!("{count} for {reason} from {source}"),
    }
}

#[cfg(test)]
mod tests {
    use retrace_proto::log::{Topic, TopicPartition};
    use retrace_proto::wire::StreamKind;
    use retrace_proto::{CommandReceived, CommandTexts, Event, Id, Masked, StreamWriter, Subject};

    use super::*;

    fn record(envelope: impl Into<Vec<u8>>) -> EventRecord {
        EventRecord {
            at: TopicPartition { topic: Topic::Events, partition: 0 },
            offset: 7,
            appended_at_unix_us: 1_000_000,
            envelope: envelope.into().into(),
        }
    }

    #[test]
    fn an_event_is_one_safe_line() {
        let id = Id::from_parts(1, [7; 10]);
        let mut stream = StreamWriter::new(id, StreamKind::Session);
        let statement = wire::Text { text: "SELECT\n'\x1b[2J'".to_owned(), escaped: false };
        #[allow(clippy::disallowed_methods, reason = "a test makes its own masked texts")]
        let texts = Masked::by_masking(CommandTexts { statement, ..CommandTexts::default() });
        let event = Event::command_received(CommandReceived::default(), texts);
        let principal = wire::Principal { name: "bot".to_owned(), ..wire::Principal::default() };
        let subject = Subject {
            session_id: Some(id),
            target: "shop".to_owned(),
            principal: Some(principal),
            ..Subject::default()
        };
        let sealed = Envelope::seal(&mut stream, &subject, None, 2_500_000, event).unwrap();
        assert_eq!(
            line(record(sealed.bytes().to_vec())),
            format!("00:00:02.500  {id}  #0 bot@shop  command_received SELECT\\n'\\x1B[2J'")
        );
    }

    #[test]
    fn refused_logins_say_how_many_they_are() {
        let refused = |count, client_address: &str| {
            refusal(&wire::LoginRefused {
                reason: wire::login_refused::Reason::FailedLogins.into(),
                client_address: client_address.to_owned(),
                count,
                ..wire::LoginRefused::default()
            })
        };
        assert_eq!(refused(1, "10.0.0.1"), "for failed_logins from 10.0.0.1");
        assert_eq!(refused(190, "2001:db8::/64"), "190 for failed_logins from 2001:db8::/64");
        assert_eq!(refused(7, ""), "7 for failed_logins from several addresses");
    }

    #[test]
    fn what_is_no_event_is_said_to_be_none() {
        let shown = line(record(b"junk".to_vec()));
        assert!(shown.starts_with("00:00:01.000  retrace.events[0] 7 is no event: "), "{shown}");
    }
}
