-- graphile-worker 0.16 to 0.18: jobs that may be taken, by the identifier of their task.
-- schema: graphile_worker
-- channel: jobs:insert
-- reads: _private_jobs (task_id, is_available, run_at, created_at), _private_tasks (id, identifier)
-- Its tables have row-level security, so whoever reads them must own them or have BYPASSRLS; without, nothing would be seen.
SELECT asked.name, found.waiting, found.oldest, later.due
FROM unnest($1::text[]) AS asked(name)
LEFT JOIN {schema}._private_tasks AS task ON task.identifier = asked.name
CROSS JOIN LATERAL (
  SELECT count(*) AS waiting, (extract(epoch FROM now()) - extract(epoch FROM min(greatest(due.at, due.created))))::float8 AS oldest
  FROM (
    SELECT job.run_at AS at, job.created_at AS created
    FROM {schema}._private_jobs AS job
    WHERE job.task_id = task.id AND job.is_available AND job.run_at <= now()
    LIMIT $2
  ) AS due
) AS found
CROSS JOIN LATERAL (
  SELECT (extract(epoch FROM min(job.run_at)) - extract(epoch FROM now()))::float8 AS due
  FROM {schema}._private_jobs AS job
  WHERE job.task_id = task.id AND job.is_available AND job.run_at > now()
) AS later
