"""A guest book with nothing but Python's standard library. It has never heard of Mortise."""

import html
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

entries, lock = [], threading.Lock()


class Guestbook(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "guestbook/1.0"

    def answer(self, status, body, kind="text/html; charset=utf-8"):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_GET(self):
        if self.path == "/guestbook/healthz":
            return self.answer(200, "well\n", "text/plain")
        with lock:
            items = "".join(f"<li><b>{html.escape(n)}</b>: {html.escape(t)}</li>" for n, t in entries)
        self.answer(200, f"<h1>Guest book</h1><ul>{items}</ul><p>pid {os.getpid()}, {len(entries)} entries</p>\n")

    do_HEAD = do_GET

    def do_POST(self):
        length = int(self.headers.get("Content-Length", "0"))
        if length > 64 * 1024:
            self.close_connection = True
            return self.answer(413, "an entry has at most 64 KiB\n", "text/plain")
        form = parse_qs(self.rfile.read(length).decode("utf-8", "replace"))
        name, text = form.get("name", ["anonymous"])[0], form.get("text", [""])[0]
        with lock:
            entries.append((name[:80], text[:2000]))
            del entries[:-100]
        self.answer(201, f"thank you, {name}\n", "text/plain; charset=utf-8")

    def log_message(self, form, *args):
        print(f"{self.command} {self.path} {args[1] if len(args) > 1 else ''}", flush=True)


def inherited():
    """The listener from systemd's protocol (LISTEN_FDS, descriptor 3), or one on $PORT."""
    if os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=3)
    port = int(os.environ.get("PORT", "8000"))
    return socket.create_server(("127.0.0.1", port))


listener = inherited()
server = ThreadingHTTPServer(listener.getsockname(), Guestbook, bind_and_activate=False)
server.socket.close()
server.socket = listener
server.daemon_threads = True
print(f"guest book: python {sys.version.split()[0]}, listening on {listener.getsockname()}, {time.strftime('%Z')}", flush=True)
server.serve_forever()
