"""Pod, Job and event status to reason, sentence, detail, remedy: the answer to "why is it not running?" and "why did it fail?"

Structured fields decide (reasons, exit codes, conditions); a message is quoted as the detail, and read only where Kubernetes says a
thing nowhere else (which resource no node has enough of, which Secret is missing). The table of cases is tests/unit/test_diagnosis.py;
tests/broken_jobs.py is the list of broken Jobs that a real node is asked about.
"""

from jobyard.model.cause import Cause, Diagnosis
from jobyard.model.diagnosis.job import diagnose

__all__ = ["Cause", "Diagnosis", "diagnose"]
