"""A command that goes on, and what it says."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
import time

BOUND = 100.0


class Said:
    """A process that goes on, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.text = ""
        """All that it said."""
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line
            self._lines.put(line)
        self.process.stdout.close()

    def until(self, words: str) -> None:
        """Returns with the line that holds these words."""
        said, end = "", time.monotonic() + BOUND
        while words not in said:
            try:
                said += self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not said in time: {words}; but: {said}") from None

    def end(self) -> None:
        """Ends it as Kubernetes would."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join()
