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
    masked.of_session AS session_id,
    masked.of_command AS command_seq,
    masked.at AS at,
    masked.by_principal AS principal,
    masked.at_target AS target,
    get_field(masked.mask, 'place') AS place,
    get_field(masked.mask, 'row') AS row,
    get_field(masked.mask, 'position') AS position,
    get_field(masked.mask, 'column') AS column_name,
    get_field(masked.mask, 'kind') AS kind,
    get_field(masked.mask, 'action') AS action,
    get_field(masked.mask, 'rule') AS rule,
    get_field(masked.mask, 'fingerprint') AS fingerprint,
    masked.part AS chunk,
    masked.of_type AS event_type
FROM (
    -- Under other names than those of the table, since what unnest makes stands beside the table's columns.
    SELECT
        stream_id AS of_session,
        CASE WHEN event_type = 'command_received' THEN stream_seq ELSE command_seq END AS of_command,
        occurred_at AS at,
        principal AS by_principal,
        target AS at_target,
        payload_chunk(coalesce(payload, raw)) AS part,
        event_type AS of_type,
        unnest(payload_mask_list(coalesce(payload, raw))) AS mask
    FROM events
    WHERE row_kind = 'event'
      AND stream_kind = 'session'
      AND event_type IN (
          'command_received', 'command_chunk', 'response_chunk', 'command_completed', 'async_message'
      )
) AS masked
