-- One row per value that masking replaced: where it stood, what it was, by which rule.
--   command_seq   seq of the command in `commands`; NULL for what the target said unasked
--   place         statement, parameter, row, diagnostic, or copy (data of a COPY FROM STDIN)
--   row           0-based within its part of the response or of the COPY data
--   position      0-based column, or parameter
--   column_name   of the result; $1 and so on for parameters; NULL in the further parts of a long response
--   kind          what it was: payment_card, email, …; column where a column is masked
--   action        redact, partial or token
--   rule          name of the [[mask]]
--   fingerprint   32 hex digits, the same for the same value; compare it with fingerprint('…')
SELECT
    session_id,
    command_seq,
    at,
    principal,
    target,
    get_field(mask, 'place') AS place,
    get_field(mask, 'row') AS row,
    get_field(mask, 'position') AS position,
    get_field(mask, 'column') AS column_name,
    get_field(mask, 'kind') AS kind,
    get_field(mask, 'action') AS action,
    get_field(mask, 'rule') AS rule,
    get_field(mask, 'fingerprint') AS fingerprint,
    chunk,
    event_type
FROM (
    SELECT
        stream_id AS session_id,
        CASE WHEN event_type = 'command_received' THEN stream_seq ELSE command_seq END AS command_seq,
        occurred_at AS at,
        principal,
        target,
        payload_chunk(coalesce(payload, raw)) AS chunk,
        event_type,
        unnest(payload_mask_list(coalesce(payload, raw))) AS mask
    FROM events
    WHERE row_kind = 'event'
      AND stream_kind = 'session'
      AND event_type IN (
          'command_received', 'command_chunk', 'response_chunk', 'command_completed', 'async_message'
      )
)
