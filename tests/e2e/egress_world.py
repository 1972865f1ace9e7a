"""A small internet in a network namespace of its own: run by the test inside it, told what to do on standard input."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.e2e import egress_attacks as attacks
from tests.origin.media import Media
from tests.origin.server import Origin
from tests.program import Program
from tests.unit.netguard.netguard_loopback import Site


class Inside:
    """What must not be reached: counts every connection, and gives the secret to whoever asks."""

    def __init__(self) -> None:
        self.connections = 0
        self.lines: list[str] = []

    def listen(self, address: str, port: int) -> socket.socket:
        """Listen until the socket is closed."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family, backlog=64)
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
        return listener

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            try:
                asked = connection.recv(8192)
                self.lines.append(asked.partition(b"\r\n")[0].decode("ascii", "replace"))
                body = attacks.SECRET * 64
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body))
                connection.sendall(body)
            except OSError:
                return


def serve_names(listener: socket.socket) -> None:
    """Answer questions for ``afterN.flip.example``: N times with the hostile site's address, then with loopback's."""
    counts: dict[str, int] = {}
    while True:
        try:
            question, client = listener.recvfrom(512)
        except OSError:
            return
        labels, position = [], 12
        while question[position]:
            labels.append(question[position + 1 : position + 1 + question[position]].decode())
            position += 1 + question[position]
        name, kind = ".".join(labels), question[position + 1 : position + 3]
        known = name.endswith(".flip.example")
        wants_ipv4 = known and kind == b"\x00\x01"
        head = question[:2] + (b"\x81\x80" if known else b"\x81\x83")
        answer = head + b"\x00\x01" + (b"\x00\x01" if wants_ipv4 else b"\x00\x00") + b"\x00" * 4
        answer += question[12 : position + 5]
        if wants_ipv4:
            counts[name] = counts.get(name, 0) + 1
            changed = counts[name] > int(labels[0].removeprefix("after"))
            address = socket.inet_aton("127.0.0.1" if changed else attacks.HOSTILE)
            answer += b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04" + address
        listener.sendto(answer, client)


def run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL)


def settle(folder: Path) -> None:
    """Give this namespace its addresses and its names. Both end with it."""
    run("ip", "link", "set", "lo", "up")
    for address in (attacks.PUBLIC, attacks.PUBLIC_IPV6, attacks.HOSTILE, *attacks.INSIDE_ADDRESSES):
        if address not in {"127.0.0.1", "::1"}:
            more = ("128", "nodad") if ":" in address else ("32",)
            run("ip", "address", "add", f"{address}/{more[0]}", "dev", "lo", *more[1:])
    files = {
        "/etc/hosts": attacks.HOSTS,
        "/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        "/etc/nsswitch.conf": "hosts: files dns\n",
    }
    for path, text in files.items():
        ours = folder / Path(path).name
        ours.write_text(text)
        run("mount", "--bind", ours, path)


class BehindProxies(Program):
    """A server whose environment names proxies of the inside: they must not matter."""

    def environment(self) -> dict[str, str]:
        """Return the environment of the server."""
        proxy = f"http://127.0.0.1:{attacks.INSIDE_PORT}"
        names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        return super().environment() | dict.fromkeys(names, proxy) | {"no_proxy": "*", "NO_PROXY": "*"}


class World:
    """Everything that runs in the namespace."""

    def __init__(self, folder: Path, media: Media, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._programs: dict[str, Program] = {}
        self._inside = Inside()
        names = socket.socket(type=socket.SOCK_DGRAM)
        names.bind(("127.0.0.1", 53))
        stack.callback(names.close)
        threading.Thread(target=serve_names, args=(names,), daemon=True).start()
        for address in attacks.INSIDE_ADDRESSES:
            for port in attacks.INSIDE_PORTS:
                stack.callback(self._inside.listen(address, port).close)
        playlist = media.hls.read_text().replace("#EXTM3U", f"#EXTM3U\n{attacks.FOR_FFMPEG}")
        shared = {"hls/ffmpeg.m3u8": playlist.encode()}
        for address in (attacks.PUBLIC, attacks.PUBLIC_IPV6):
            stack.enter_context(Origin(media, shared, listen=(address, 80)))
        for port in attacks.INSIDE_PORTS:
            stack.enter_context(Site(attacks.HOSTILE, attacks.pages(), port))

    def start(self, name: str, settings: dict[str, object]) -> dict[str, str]:
        """Start a server; say where its downloads go."""
        program = BehindProxies(self._folder / name, **settings)
        self._programs[name] = self._stack.enter_context(program)
        return {"downloads": str(program.downloads)}

    def request(self, name: str, requests: list[list[Any]]) -> list[dict[str, Any]]:
        """Send requests (method, path, body) to a server, four at once; return statuses and answers."""

        def send(one: list[Any]) -> dict[str, Any]:
            method, path, body = one
            response = self._programs[name].client.request(method, path, json=body)
            return {"status": response.status_code, "text": response.text}

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(send, requests))

    def inside(self) -> dict[str, Any]:
        """Say who has come inside."""
        return {"connections": self._inside.connections, "lines": self._inside.lines}


@contextmanager
def world(folder: Path, media: Path) -> Iterator[World]:
    settle(folder)
    with ExitStack() as stack:
        yield World(folder, Media(media), stack)


def main(folder: Path, media: Path) -> None:
    """Obey each line of standard input, [what, *arguments], with a line of output, until there are no more."""
    with world(folder, media) as inhabited:
        for line in sys.stdin:
            what, *arguments = json.loads(line)
            sys.stdout.write(json.dumps(getattr(inhabited, what)(*arguments)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
