-- Oban: jobs that are available, and those whose time has come and that its stager would promote, by queue. Its times are UTC without a zone.
-- schema: public
-- reads: oban_jobs (queue, state, scheduled_at)
SELECT asked.name, found.waiting, found.oldest, later.due
FROM unnest($1::text[]) AS asked(name)
CROSS JOIN LATERAL (
  SELECT count(*) AS waiting, (extract(epoch FROM now()) - extract(epoch FROM min(due.at AT TIME ZONE 'UTC')))::float8 AS oldest
  FROM (
    SELECT job.scheduled_at AS at
    FROM {schema}.oban_jobs AS job
    WHERE job.queue = asked.name AND job.state IN ('available', 'scheduled', 'retryable') AND job.scheduled_at <= now() AT TIME ZONE 'UTC'
    LIMIT $2
  ) AS due
) AS found
CROSS JOIN LATERAL (
  SELECT (extract(epoch FROM min(job.scheduled_at AT TIME ZONE 'UTC')) - extract(epoch FROM now()))::float8 AS due
  FROM {schema}.oban_jobs AS job
  WHERE job.queue = asked.name AND job.state IN ('available', 'scheduled', 'retryable') AND job.scheduled_at > now() AT TIME ZONE 'UTC'
) AS later
