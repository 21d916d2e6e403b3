-- procrastinate 3: jobs to do whose time has come, by queue.
-- schema: public
-- channel: procrastinate_any_queue_v1
-- reads: procrastinate_jobs (queue_name, status, scheduled_at)
-- Its table does not say when a job came; of those that were scheduled, the oldest tells its age.
SELECT asked.name, found.waiting, found.oldest, later.due
FROM unnest($1::text[]) AS asked(name)
CROSS JOIN LATERAL (
  SELECT count(*) AS waiting, (extract(epoch FROM now()) - extract(epoch FROM min(due.at)))::float8 AS oldest
  FROM (
    SELECT job.scheduled_at AS at
    FROM {schema}.procrastinate_jobs AS job
    WHERE job.queue_name = asked.name AND job.status = 'todo' AND (job.scheduled_at IS NULL OR job.scheduled_at <= now())
    LIMIT $2
  ) AS due
) AS found
CROSS JOIN LATERAL (
  SELECT (extract(epoch FROM min(job.scheduled_at)) - extract(epoch FROM now()))::float8 AS due
  FROM {schema}.procrastinate_jobs AS job
  WHERE job.queue_name = asked.name AND job.status = 'todo' AND job.scheduled_at > now()
) AS later
