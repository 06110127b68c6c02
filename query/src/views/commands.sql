-- One row per command, with how it ended.
--   seq          the command's place in its session
--   statement    masked; the first part of one too long for an event
--   parameters   bound values, masked, as a JSON array of strings and nulls
--   status       NULL while no end is recorded; refused if the gate refused it
--   rows         rows returned or changed, as the target counted them
--   copied_bytes         COPY data of the command that is kept, in bytes
--   omitted_bytes        COPY data that was passed on and not kept
--   omitted_rows         rows of the response whose cells are left out, as the target is configured
--   omitted_row_bytes    their bytes on the wire
-- The narrow ends are the build side of the joins, the statements stream past them.
SELECT
    received.stream_id AS session_id,
    received.stream_seq AS seq,
    received.occurred_at AS at,
    received.principal AS principal,
    received.target AS target,
    received.command_kind AS kind,
    received.statement AS statement,
    payload_parameters(received.payload) AS parameters,
    received.decision AS decision,
    received.decision_rule AS rule,
    coalesce(completed.status, CASE WHEN refused.stream_id IS NOT NULL THEN 'refused' END) AS status,
    completed.command_tag AS command_tag,
    completed.row_count AS rows,
    coalesce(completed.sqlstate, refused.sqlstate) AS sqlstate,
    completed.error_message AS error_message,
    completed.duration_us AS duration_us,
    refused.refused_reason AS refused_reason,
    refused.forwarded AS forwarded,
    completed.response_bytes AS response_bytes,
    received.principal_kind AS principal_kind,
    received.on_behalf_of AS on_behalf_of,
    received.token_id AS token_id,
    received.protocol AS protocol,
    received.durability AS durability,
    parts.copied_bytes AS copied_bytes,
    parts.omitted_bytes AS omitted_bytes,
    parts.omitted_rows AS omitted_rows,
    parts.omitted_row_bytes AS omitted_row_bytes
FROM (
    SELECT
        stream_id,
        command_seq,
        sum(payload_data_bytes(coalesce(payload, raw))) AS copied_bytes,
        sum(CASE WHEN event_type = 'command_omitted' THEN payload_omitted_bytes(coalesce(payload, raw)) END) AS omitted_bytes,
        sum(payload_omitted_rows(coalesce(payload, raw))) AS omitted_rows,
        sum(CASE WHEN event_type = 'response_omitted' THEN payload_omitted_bytes(coalesce(payload, raw)) END) AS omitted_row_bytes
    FROM events
    WHERE row_kind = 'event'
      AND stream_kind = 'session'
      AND event_type IN ('command_chunk', 'command_omitted', 'response_omitted')
    GROUP BY stream_id, command_seq
) AS parts
RIGHT JOIN (
    (
    SELECT stream_id, command_seq, sqlstate, refused_reason, forwarded
    FROM events
    WHERE row_kind = 'event' AND stream_kind = 'session' AND event_type = 'command_refused'
    ) AS refused
RIGHT JOIN (
    (
        SELECT stream_id, command_seq, status, command_tag, row_count, sqlstate, error_message, duration_us,
               response_bytes
        FROM events
        WHERE row_kind = 'event' AND stream_kind = 'session' AND event_type = 'command_completed'
    ) AS completed
    RIGHT JOIN (
        SELECT stream_id, stream_seq, occurred_at, principal, principal_kind, on_behalf_of, token_id, target,
               protocol, durability, command_kind, statement, decision, decision_rule, coalesce(payload, raw) AS payload
        FROM events
        WHERE row_kind = 'event' AND stream_kind = 'session' AND event_type = 'command_received'
    ) AS received
    ON completed.stream_id = received.stream_id AND completed.command_seq = received.stream_seq
)
ON refused.stream_id = received.stream_id AND refused.command_seq = received.stream_seq
)
ON parts.stream_id = received.stream_id AND parts.command_seq = received.stream_seq
