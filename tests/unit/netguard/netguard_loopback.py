"""Servers and programs of the netguard tests: 127.1.0.0/16 plays the public internet, 127.0.0.1 the inside."""

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent

#: Entries of the policy of these tests.
PUBLIC_PLAYED = ["127.1.0.0/16"]
SECRET = b"the secret of the inside"

Answer = tuple[int, dict[str, str], bytes]


class Site:
    """A web server that answers from a table of paths (or a function) and remembers what it was asked."""

    def __init__(self, host: str, answers: dict[str, Answer] | Callable[[str], Answer], port: int = 0) -> None:
        self.seen: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.seen.append(self.path)
                site.headers.append({name.lower(): value for name, value in self.headers.items()})
                site.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                path = self.path.partition("?")[0]
                status, headers, body = answers(path) if callable(answers) else answers.get(path, (404, {}, b""))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_POST = do_GET  # noqa: N815
            do_HEAD = do_GET  # noqa: N815
            do_CONNECT = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer((host, port), Handler)
        self.server.daemon_threads = True
        self.port: int = self.server.server_address[1]
        self.url = f"http://{host}:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> "Site":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextmanager
def inside() -> Iterator[Site]:
    """The server on 127.0.0.1 that nobody may reach."""
    with Site("127.0.0.1", lambda path: (200, {}, SECRET)) as site:
        yield site


def run_python(program: str, *arguments: str, timeout_seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a program text in a fresh interpreter; fails the test when it fails."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        cwd=HERE,
        check=False,
    )
    assert done.returncode == 0, f"stdout:\n{done.stdout}\nstderr:\n{done.stderr}"
    return done
