-- What the targets answered, masked: the parts of each response in order, the last with the command's end.
--   command_seq     seq of the command in `commands`
--   chunk           0-based
--   columns         names of the result columns that begin in this part, as a JSON array
--   response_text   the cells: tabs between columns, newlines between rows
--   masked_values   how many values masking replaced
SELECT
    stream_id AS session_id,
    command_seq,
    payload_chunk(coalesce(payload, raw)) AS chunk,
    occurred_at AS at,
    principal,
    target,
    payload_columns(coalesce(payload, raw)) AS columns,
    response_text,
    payload_masks(coalesce(payload, raw)) AS masked_values,
    error_message,
    event_type = 'command_completed' AS is_last
FROM events
WHERE row_kind = 'event'
  AND stream_kind = 'session'
  AND event_type IN ('response_chunk', 'command_completed')
