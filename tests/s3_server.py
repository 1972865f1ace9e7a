"""An S3 server of the tests' own on loopback: a real process that checks signatures, and a line to it that can fail."""

import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Any, Self

import boto3

BUCKET = "finished-files"
REGION = "us-east-1"
#: Requests that make the user; from then on every request must be signed by somebody who may.
FREE_REQUESTS = 3
_POLICY = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Line:
    """Passes bytes on to the server, and does to them what a test wants."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        #: Takes no connections, and cuts those that there are.
        self.is_down = False
        #: Lets so many bytes more through to the server, and then holds the line.
        self.budget: int | None = None
        #: Spoil one byte of the next piece that is longer than this.
        self.spoil_longer_than: int | None = None
        #: Cut every connection on which a request holds this.
        self.refused: bytes | None = None
        self.sent_bytes = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        line = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                line.serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def cut(self) -> None:
        """Be down, and let go of everybody."""
        self.is_down = True
        with self._lock:
            for one in self._open:
                one.close()

    def close(self) -> None:
        """End."""
        self.cut()
        self._server.shutdown()
        self._server.server_close()

    def serve(self, client: socket.socket) -> None:
        if self.is_down:
            return
        with socket.create_connection(("127.0.0.1", self._target)) as server:
            with self._lock:
                self._open |= {client, server}
            back = threading.Thread(target=self._pass, args=(server, client), daemon=True)
            back.start()
            try:
                while piece := client.recv(65536):
                    if self.refused is not None and self.refused in piece:
                        client.shutdown(socket.SHUT_RDWR)
                        break
                    server.sendall(self._change(piece))
                server.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            back.join(30)
            with self._lock:
                self._open -= {client, server}

    def _change(self, piece: bytes) -> bytes:
        while self.budget is not None and self.budget <= 0 and not self.is_down:
            time.sleep(0.01)
        if self.budget is not None:
            self.budget -= len(piece)
        self.sent_bytes += len(piece)
        if self.spoil_longer_than is not None and len(piece) > self.spoil_longer_than:
            self.spoil_longer_than = None
            return piece[:-1] + bytes([piece[-1] ^ 1])
        return piece

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        try:
            while piece := source.recv(65536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class S3Server:
    """One server with one bucket. ``signed``: it knows its user, and refuses everybody else."""

    def __init__(self, *, signed: bool = True) -> None:
        self._signed = signed
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.access_key_id = "somebody"
        self.secret_access_key = "something"

    def __enter__(self) -> Self:
        environment = dict(os.environ)
        if self._signed:
            environment["INITIAL_NO_AUTH_ACTION_COUNT"] = str(FREE_REQUESTS)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the S3 server did not start"
                assert self._process.poll() is None, "the S3 server ended"
                time.sleep(0.05)
        if self._signed:
            self._make_user()
        self.client = self._service("s3")
        self.client.create_bucket(Bucket=BUCKET)
        self.line = Line(self._port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.line.close()
        self.client.close()
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @property
    def endpoint(self) -> str:
        """Where the program under test finds it."""
        return f"http://127.0.0.1:{self.line.port}"

    def settings(self, **more: object) -> dict[str, object]:
        """Return what an installation must be told."""
        return {
            "s3_bucket": BUCKET,
            "s3_endpoint": self.endpoint,
            "s3_access_key_id": self.access_key_id,
            "s3_secret_access_key": self.secret_access_key,
            **more,
        }

    def object_keys(self) -> list[str]:
        """Return the keys of all objects."""
        return sorted(one["Key"] for one in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", []))

    def body(self, key: str) -> bytes:
        """Return what is under a key."""
        found: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return found

    def unfinished(self) -> list[dict[str, Any]]:
        """Return the uploads that were begun and are not finished."""
        return list(self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []))

    def parts(self) -> int:
        """Return how many parts the unfinished uploads have."""
        return sum(
            len(self.client.list_parts(Bucket=BUCKET, Key=one["Key"], UploadId=one["UploadId"]).get("Parts", []))
            for one in self.unfinished()
        )

    def _make_user(self) -> None:
        iam = self._service("iam")
        iam.create_user(UserName="program")
        made = iam.create_access_key(UserName="program")["AccessKey"]
        iam.put_user_policy(UserName="program", PolicyName="all", PolicyDocument=_POLICY)
        iam.close()
        self.access_key_id, self.secret_access_key = made["AccessKeyId"], made["SecretAccessKey"]

    def _service(self, name: str) -> Any:
        return boto3.client(
            name,
            endpoint_url=f"http://127.0.0.1:{self._port}",
            region_name=REGION,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
        )
