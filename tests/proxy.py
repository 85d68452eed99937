"""A TCP proxy that breaks connections the way networks do: cut, slow, silent, closed."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

_CHUNK = 65_536


class Proxy:
    """Forwards to a port of this machine until a fault is set; `heal` takes it away.

    ``up`` is what clients send, ``down`` what the server answers; bytes are counted over all
    connections since the last `arm` or `heal`.
    """

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.pairs = []
        self.deaf = set()  # those that are swallowed, by their sinks
        self.lock = threading.Lock()
        self.heal()

    def heal(self):
        """Forward everything at once."""
        self.arm()

    def arm(
        self, *, cut=None, silent_after=None, deaf_after=None, delay=0.0, chunk=_CHUNK, closed=False
    ):
        """Set a fault: ``cut`` is (direction, bytes), after which all connections are reset.

        After ``silent_after`` bytes everything is swallowed; after ``deaf_after``, which is
        (direction, bytes) again, that of the one connection which brought them, then and ever.
        """
        with self.lock:
            self.passed = {"up": 0, "down": 0}
            self.cut, self.silent_after, self.deaf_after = cut, silent_after, deaf_after
            self.delay, self.chunk, self.closed = delay, chunk, closed
        if closed:
            self.reset()

    def deafen(self):
        """Swallow everything of the connections there are, and of no other."""
        with self.lock:
            self.deaf |= {each for pair in self.pairs for each in pair}

    def reset(self):
        """Break every connection without a farewell."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for each in (one for pair in pairs for one in pair):
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.listener.close()
        self.reset()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                if self.closed:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    client.close()
                    continue
                with self.lock:
                    self.pairs.append((client, server))
                for name, a, b in (("up", client, server), ("down", server, client)):
                    threading.Thread(target=self._pump, args=(name, a, b), daemon=True).start()

    def _pump(self, direction, source, sink):
        try:
            while data := source.recv(self.chunk):
                time.sleep(self.delay)
                if not self._forward(direction, sink, data):
                    self.reset()
                    return
        except OSError:
            pass
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _forward(self, direction, sink, data):
        """Pass on what the fault lets through; False where the connections are to be cut."""
        with self.lock:
            before = self.passed[direction]
            self.passed[direction] += len(data)
            if self.silent_after is not None and sum(self.passed.values()) > self.silent_after:
                return True  # swallowed
            deaf = self.deaf_after is not None and self.deaf_after[0] == direction
            if deaf and self.passed[direction] > self.deaf_after[1]:
                self.deaf |= {each for pair in self.pairs if sink in pair for each in pair}
                self.deaf_after = None
            if sink in self.deaf:
                return True
            cut = self.cut is not None and self.cut[0] == direction
            if cut and self.passed[direction] > self.cut[1]:
                data, self.cut = data[: self.cut[1] - before], None
            else:
                cut = False
        sink.sendall(data)
        return not cut
