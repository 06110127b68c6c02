-- One row per session: who reached which target, from where, when, and how much was asked.
--   state      open until a SessionClosed is recorded
--   commands   commands received so far
SELECT
    stream_id AS session_id,
    max(principal) AS principal,
    max(principal_kind) AS principal_kind,
    max(on_behalf_of) AS on_behalf_of,
    max(target) AS target,
    max(protocol) AS protocol,
    max(CASE WHEN event_type = 'session_opened' THEN payload_client_address(coalesce(payload, raw)) END) AS client_address,
    min(CASE WHEN event_type = 'session_opened' THEN occurred_at END) AS opened_at,
    max(CASE WHEN event_type = 'session_closed' THEN occurred_at END) AS closed_at,
    CASE WHEN count(CASE WHEN event_type = 'session_closed' THEN 1 END) > 0 THEN 'closed' ELSE 'open' END AS state,
    max(CASE WHEN event_type = 'session_closed' THEN status END) AS close_reason,
    count(CASE WHEN event_type = 'command_received' THEN 1 END) AS commands,
    arrow_cast(max(CASE WHEN event_type = 'session_closed' THEN occurred_at END), 'Int64')
        - arrow_cast(min(CASE WHEN event_type = 'session_opened' THEN occurred_at END), 'Int64') AS duration_us
FROM events
WHERE row_kind = 'event'
  AND stream_kind = 'session'
  AND event_type IN ('session_opened', 'session_closed', 'command_received')
GROUP BY stream_id
