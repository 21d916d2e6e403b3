"""What the API server says of a Job whose fields are all known and of the right type: rules by part of it, and the walk that applies them.

A module a part: each has `FIELDS`, what a field may hold (`checks`), and `RULES`, what fields mean together. Both go by the name that
Kubernetes' schema gives to the object they stand in (`Container`, `JobSpec`), so a rule holds wherever such an object stands. They say
what Kubernetes 1.36 says with its feature gates as they come; `tests/contract/test_check_agrees.py` compares.
"""

RELEASE = "v1.36"
"""The Kubernetes release whose rules these are."""
