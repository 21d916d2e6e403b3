-- pgmq 1.5 and later: messages that can be seen, by queue, as its own metrics say. They count every message of every queue.
-- schema: pgmq
-- reads: metrics_all()
SELECT found.queue_name::text, least(found.queue_visible_length, $2), found.oldest_msg_age_sec::float8, NULL::float8
FROM {schema}.metrics_all() AS found
WHERE found.queue_name::text = ANY ($1::text[])
