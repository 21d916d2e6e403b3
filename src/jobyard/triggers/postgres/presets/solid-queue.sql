-- Solid Queue on Postgres: executions that are ready, and those whose time has come and that its dispatcher would promote, by queue; a queue
-- that is paused has none. Its times are UTC without a zone.
-- schema: public
-- reads: solid_queue_ready_executions (queue_name, created_at), solid_queue_scheduled_executions (queue_name, scheduled_at), solid_queue_pauses (queue_name)
SELECT asked.name, found.waiting, found.oldest, later.due
FROM unnest($1::text[]) AS asked(name)
CROSS JOIN LATERAL (
  SELECT count(*) AS waiting, (extract(epoch FROM now()) - extract(epoch FROM min(due.at AT TIME ZONE 'UTC')))::float8 AS oldest
  FROM (
    SELECT ready.created_at AS at
    FROM {schema}.solid_queue_ready_executions AS ready
    WHERE ready.queue_name = asked.name
    UNION ALL
    SELECT scheduled.scheduled_at
    FROM {schema}.solid_queue_scheduled_executions AS scheduled
    WHERE scheduled.queue_name = asked.name AND scheduled.scheduled_at <= now() AT TIME ZONE 'UTC'
    LIMIT $2
  ) AS due
  WHERE NOT EXISTS (SELECT FROM {schema}.solid_queue_pauses AS pause WHERE pause.queue_name = asked.name)
) AS found
CROSS JOIN LATERAL (
  SELECT (extract(epoch FROM min(scheduled.scheduled_at AT TIME ZONE 'UTC')) - extract(epoch FROM now()))::float8 AS due
  FROM {schema}.solid_queue_scheduled_executions AS scheduled
  WHERE scheduled.queue_name = asked.name AND scheduled.scheduled_at > now() AT TIME ZONE 'UTC'
) AS later
