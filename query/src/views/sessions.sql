-- One row per session of which any event is there: who reached which target, from where, when, and how much was asked.
--   state          open, closed, lost, unverified, damaged or expired:
--       damaged      an event is missing, follows the end, or has not the hash that the next one names; or a signed head
--                    of the stream says that there were more events, or another last one
--       expired      the same, and it began so early that retention removes it: a part is gone, or going. Its id is believed
--                    no further than two days before the log took what is left of it, or the first signed head of it
--       unverified   no signature of a key that this service trusts covers what is there
--       closed       it ended, and a signed head covers its end or is not yet due
--       lost         it did not end, and its instance has stopped, has signed nothing for 30 s, or names it no more
--       open         none of these
--     An instance signs heads every 10 s, and a new event has 30 s to be covered by one. Time is that of the query, by
--     this service's clock, so that sessions are lost even when everything has stopped. Hashes are compared with each
--     other, not computed again.
--   commands       commands received so far
--   continues      the session that this one goes on from, where a long one was cut in two
--   continued_by   the session that goes on from this one
--   target_user    the role that the gate logged in as at the target, which is what the target's own log says
SELECT
    stream.stream_id AS session_id,
    facts.principal AS principal,
    facts.principal_kind AS principal_kind,
    facts.on_behalf_of AS on_behalf_of,
    facts.target AS target,
    facts.protocol AS protocol,
    facts.client_address AS client_address,
    facts.opened_at AS opened_at,
    facts.closed_at AS closed_at,
    stream.state AS state,
    facts.close_reason AS close_reason,
    coalesce(facts.commands, 0) AS commands,
    arrow_cast(facts.closed_at, 'Int64') - arrow_cast(facts.opened_at, 'Int64') AS duration_us,
    facts.continues AS continues,
    following.stream_id AS continued_by,
    facts.target_user AS target_user
FROM (
    SELECT
        stream_id,
        max(principal) AS principal,
        max(principal_kind) AS principal_kind,
        max(on_behalf_of) AS on_behalf_of,
        max(target) AS target,
        max(protocol) AS protocol,
        max(CASE WHEN event_type = 'session_opened' THEN payload_client_address(coalesce(payload, raw)) END) AS client_address,
        max(CASE WHEN event_type = 'session_opened' THEN payload_continues(coalesce(payload, raw)) END) AS continues,
        max(CASE WHEN event_type = 'session_opened' THEN payload_target_user(coalesce(payload, raw)) END) AS target_user,
        min(CASE WHEN event_type = 'session_opened' THEN occurred_at END) AS opened_at,
        max(CASE WHEN event_type = 'session_closed' THEN occurred_at END) AS closed_at,
        max(CASE WHEN event_type = 'session_closed' THEN status END) AS close_reason,
        count(CASE WHEN event_type = 'command_received' THEN 1 END) AS commands
    FROM events
    WHERE row_kind = 'event'
      AND stream_kind = 'session'
      AND event_type IN ('session_opened', 'session_closed', 'command_received')
    GROUP BY stream_id
) AS facts
RIGHT JOIN (
    (
        SELECT payload_continues(coalesce(payload, raw)) AS continues, min(stream_id) AS stream_id
        FROM events
        WHERE row_kind = 'event' AND stream_kind = 'session' AND event_type = 'session_opened'
        GROUP BY payload_continues(coalesce(payload, raw))
    ) AS following
    RIGHT JOIN (
        SELECT
            stream_id,
            session_state(
                stream_id, stream_seq, prev_hash, hash, event_type, arrow_cast(appended_at, 'Int64'), proxy_id,
                retention_class
            ) AS state
        FROM events
        WHERE row_kind = 'event' AND stream_kind = 'session'
        GROUP BY stream_id
    ) AS stream
    ON following.continues = stream.stream_id
)
ON facts.stream_id = stream.stream_id
