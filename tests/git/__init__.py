"""Real Git remotes for tests: a folder, ssh on loopback, HTTP with a password."""
