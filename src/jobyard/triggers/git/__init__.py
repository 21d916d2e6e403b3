"""Commit a Job to run it: the files under `queued/` of a repository are run, and each file's folder tells where it stands."""
