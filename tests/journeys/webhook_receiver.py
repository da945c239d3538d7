"""A receiver of its own process: it verifies as docs/events.md says, remembers what came in a file, and may be killed.

    python -m tests.journeys.webhook_receiver PORT SECRET FILE

An event counts as received once its id is on the disk; only then is it answered.
"""

import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PORT, SECRET, FILE = sys.argv[1:]
DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"
SNIPPET = re.search(r"```python\n(.+?)```", DOCUMENT.read_text(), re.DOTALL)
documented: dict[str, Any] = {}
assert SNIPPET is not None
exec(SNIPPET[1], documented)  # noqa: S102 the documented way to verify is what is tested


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_ours = documented["verify"](SECRET, self.headers, body)
        with Path(FILE).open("a", encoding="utf-8") as file:
            file.write(f"{self.headers['webhook-id'] if is_ours else 'forged'}\n")
            file.flush()
            os.fsync(file.fileno())
        self.send_response(204 if is_ours else 401)
        self.end_headers()

    def log_message(self, *_told: Any) -> None:
        """Say nothing."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", int(PORT)), Handler) as server:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        server.serve_forever()
