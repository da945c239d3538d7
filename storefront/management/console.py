"""Progress for people: a bar on a terminal, a line per stage elsewhere, and what the command used."""

import resource
import sys
import time
from typing import TextIO

BAR_WIDTH = 30


class Console:
    """Shows how far a long command is. `total` 0 means that nobody knows it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._stage = ""
        self._started = time.monotonic()

    def usage(self) -> dict[str, float]:
        """Return the seconds since this was made and the peak memory of the process in MiB."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak_bytes = peak if sys.platform == "darwin" else peak * 1024
        return {
            "seconds": round(time.monotonic() - self._started, 2),
            "peak_rss_mb": round(peak_bytes / 2**20, 1),
        }

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show the progress of a stage."""
        if not self._out.isatty():
            if stage != self._stage:
                self._out.write(f"{stage} ...\n")
                self._stage = stage
            return
        if stage != self._stage:
            self._end_line()
            self._stage = stage
        filled = BAR_WIDTH * done // total if total else 0
        bar = (
            f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {done:,}/{total:,}" if total else f"{done:,}" if done else ""
        )
        self._out.write(f"\r{stage:<28} {bar}\x1b[K")
        self._out.flush()

    def close(self) -> None:
        """Leave the line."""
        self._end_line()
        self._stage = ""

    def _end_line(self) -> None:
        if self._stage and self._out.isatty():
            self._out.write("\n")
