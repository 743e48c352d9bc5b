"""A local mirror that misbehaves as it is told: slow, cut off, wrong, redirecting, refusing."""

import hashlib
import socket
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: The real thing: tests close the network, and open this machine's own again with it.
CONNECT = socket.socket.connect

LIST = "SHA256SUMS.txt"


def checksum_list(files):
    """SHA256SUMS.txt as PhysioNet has it: one blank."""
    lines = [f"{hashlib.sha256(data).hexdigest()} {path}\n" for path, data in files.items()]
    return "".join(lines).encode()


def status(code, **headers):
    """Answer with a status, whatever is asked for."""

    def fault(handler, data):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return fault


def cut(after):
    """Promise all, send some bytes, and hang up."""

    def fault(handler, data):
        handler.answer(data, send=after)
        handler.hang_up()

    return fault


def stall(after, seconds):
    """Send some bytes of a whole file, then nothing for a while, then the rest."""

    def fault(handler, data):
        handler.answer(data, send=after)
        time.sleep(seconds)
        handler.wfile.write(data[after:])

    return fault


def other_bytes(handler, data):
    """The right length and the wrong content."""
    handler.answer(bytes(byte ^ 0x55 for byte in data))


def stated_length(more):
    """A Content-Length that is off by so much."""

    def fault(handler, data):
        handler.answer(data, length=more)
        handler.hang_up()

    return fault


def no_range(handler, data):
    """All of it, whatever part is asked for."""
    handler.headers.replace_header("Range", "") if "Range" in handler.headers else None
    handler.answer(data)


def wrong_range(handler, data):
    """Another part than asked for, honestly labelled."""
    if "Range" in handler.headers:
        handler.headers.replace_header("Range", "bytes=1-")
    handler.answer(data)


def redirect(to):
    """It lies elsewhere."""

    def fault(handler, data):
        status(302, Location=to)(handler, data)

    return fault


class Handler(BaseHTTPRequestHandler):
    """Answers with files and ranges of them, at the server's speed."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        path = self.path.lstrip("/")
        with server.lock:
            server.asked.append((path, self.headers.get("Range")))
            once = server.faults[path].pop(0) if server.faults[path] else None
        fault = once or server.always.get(path) or server.always.get("*")
        data = server.files.get(path)
        if fault is not None:
            fault(self, data)
        elif data is None:
            status(404)(self, data)
        else:
            self.answer(data)

    def answer(self, data, send=None, length=0):
        """Send what was asked for of `data`, at most `send` bytes, its length off by `length`."""
        start = 0
        asked = self.headers.get("Range") or ""
        if asked.startswith("bytes="):
            start = int(asked.removeprefix("bytes=").split("-")[0])
            if start >= len(data):
                status(416, Content_Range=f"bytes */{len(data)}")(self, data)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        body = data[start:]
        self.send_header("Content-Length", str(max(len(body) + length, 0)))
        self.end_headers()
        body = body[:send]
        piece = self.server.piece_bytes
        for at in range(0, len(body), piece):
            self.wfile.write(body[at : at + piece])
            with self.server.lock:
                self.server.sent_bytes += len(body[at : at + piece])
            if self.server.pause_s:
                time.sleep(self.server.pause_s)

    def hang_up(self):
        """Close the connection after this answer."""
        self.close_connection = True

    def log_message(self, *_):
        """Say nothing."""


class FaultyServer(ThreadingHTTPServer):
    """A mirror. `faults[path]` are used up, one a request; `always[path]` stays, `*` for all."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.faults = defaultdict(list)
        self.always = {}
        self.asked = []
        self.sent_bytes = 0
        self.piece_bytes, self.pause_s = 1 << 16, 0.0
        self.lock = threading.Lock()

    @property
    def url(self):
        """Its base address."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def ranges(self, path):
        """The Range of every request for a path so far."""
        return [asked for name, asked in self.asked if name == path]

    def handle_error(self, request, client_address):
        """A client that goes away in the middle is what this is for."""


@contextmanager
def serving(files, **pace):
    """A mirror of some files, with their list of checksums unless one is among them."""
    server = FaultyServer({LIST: checksum_list(files), **files})
    for name, value in pace.items():
        setattr(server, name, value)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_address():
    """An address at which nothing answers."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{door.getsockname()[1]}/"
