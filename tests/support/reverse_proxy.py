"""A reverse proxy in front of a daemon: below a path, as an older pg-status, or unavailable."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.daemon import Daemon


class ReverseProxy:
    """Passes requests on without their prefix, and counts them by path."""

    def __init__(self, daemon: Daemon, prefix: str, refused: tuple[str, ...]) -> None:
        self.requests: list[str] = []
        """The paths that were requested, with the prefix."""
        self.replaced: dict[str, bytes] = {}
        """Paths, and responses that are not those of pg-status."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy.requests.append(self.path)
                path = self.path.removeprefix(prefix)
                if path.startswith(tuple(proxy.replaced)):
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(proxy.replaced[path.partition("?")[0]])
                    return
                if path == self.path or path.startswith(refused):
                    self.send_error(404)
                    return
                upstream = http.client.HTTPConnection(daemon.address, daemon.port, timeout=15)
                with closing(upstream), suppress(OSError):  # the client may close a stream
                    upstream.request("GET", path, headers=dict(self.headers))
                    with upstream.getresponse() as response:
                        self.send_response(response.status)
                        for name in ("Content-Type", "Content-Security-Policy"):
                            if name in response.headers:
                                self.send_header(name, response.headers[name])
                        self.end_headers()
                        while part := response.read1():
                            self.wfile.write(part)

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer((daemon.address, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{daemon.address}:{self._server.server_port}{prefix}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def reverse_proxy(
    daemon: Daemon, prefix: str = "/ops/pg-status", refused: tuple[str, ...] = ("\0",)
) -> Iterator[ReverseProxy]:
    """``refused``: paths, after the prefix, for which the response is 404."""
    proxy = ReverseProxy(daemon, prefix, refused)
    try:
        yield proxy
    finally:
        proxy.close()
