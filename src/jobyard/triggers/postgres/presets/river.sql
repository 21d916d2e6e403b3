-- River: jobs that are available, and those whose time has come and that a live client would promote, by queue.
-- schema: public
-- channel: river_insert
-- reads: river_job (queue, state, scheduled_at)
SELECT asked.name, found.waiting, found.oldest, later.due
FROM unnest($1::text[]) AS asked(name)
CROSS JOIN LATERAL (
  SELECT count(*) AS waiting, (extract(epoch FROM now()) - extract(epoch FROM min(due.at)))::float8 AS oldest
  FROM (
    SELECT job.scheduled_at AS at
    FROM {schema}.river_job AS job
    WHERE job.queue = asked.name AND job.state IN ('available', 'scheduled', 'retryable') AND job.scheduled_at <= now()
    LIMIT $2
  ) AS due
) AS found
CROSS JOIN LATERAL (
  SELECT (extract(epoch FROM min(job.scheduled_at)) - extract(epoch FROM now()))::float8 AS due
  FROM {schema}.river_job AS job
  WHERE job.queue = asked.name AND job.state IN ('available', 'scheduled', 'retryable') AND job.scheduled_at > now()
) AS later
