-- pg-boss 7 to 12: how much waits in each of the queues $1, counting at most $2 of each.
-- schema: pgboss
-- reads: job (name, state, start_after, blocked)
-- The words in braces depend on the version, which is told by the table's columns. Where items come in the order of their time by the
-- index, that order is asked for; from 12.19 on it is not, and NOT blocked must stand in the text for the index to be used.
SELECT asked.name, found.waiting, found.oldest, later.due
FROM unnest($1::text[]) AS asked(name)
CROSS JOIN LATERAL (
  SELECT count(*) AS waiting,
         (extract(epoch FROM now()) - extract(epoch FROM min(due.due)))::float8 AS oldest
  FROM (
    SELECT job.{due} AS due
    FROM {schema}.job
    WHERE job.name = asked.name AND job.state < 'active' AND job.{due} <= now() {not_blocked}
    {in_order}
    LIMIT $2
  ) AS due
) AS found
CROSS JOIN LATERAL (
  SELECT (extract(epoch FROM min(future.due)) - extract(epoch FROM now()))::float8 AS due
  FROM (
    SELECT job.{due} AS due
    FROM {schema}.job
    WHERE job.name = asked.name AND job.state < 'active' AND job.{due} > now() {not_blocked}
    {in_order}
    LIMIT {first}
  ) AS future
) AS later
