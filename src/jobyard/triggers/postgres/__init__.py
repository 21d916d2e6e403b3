"""Run Jobs while a queue in Postgres has work: pg-boss, others by a text each, and any query."""
