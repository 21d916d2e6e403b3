"""A Kubernetes API on this machine that runs Jobs as processes: for trial, development and tests. Reached only over HTTP."""
