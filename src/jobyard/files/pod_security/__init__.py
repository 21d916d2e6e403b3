"""Kubernetes' Pod Security Standards, level by level: which pods of a manifest go beyond one, and where.

`baseline` and `restricted` hold the rules, a function each with its table; `pods` knows where pods stand in an object; `judge` applies
the rules. `tests/contract/test_pod_security_agrees.py` compares the verdicts with those of an API server.
"""
