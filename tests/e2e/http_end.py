#!/usr/bin/env python3
"""End to end: the HTTP layer comes to an end in time, whatever its clients do meanwhile.

Usage: http_end.py SOLVENT [--rounds N] [--seed N]. Starts tests/http_echo, which stands beside SOLVENT, with and without
TLS, lets random clients idle, dawdle, stall, read, leave and break off, and ends it in the midst of that. Prints a line a
test, then "N passed, N failed".
"""
import argparse
import concurrent.futures
import os
import random
import resource
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time

args = argparse.ArgumentParser()
args.add_argument("solvent")
args.add_argument("--rounds", type=int, default=6)
args.add_argument("--seed", type=int, default=1)
args.add_argument("--keep", action="store_true", help="leave a server that does not end for a debugger")
args = args.parse_args()

CLOSE = 2  # seconds for answers under way
GRACE = 5  # then all is over, also on a machine that is busy with something else
ECHO = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"
HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))
folder = tempfile.TemporaryDirectory()
CERT, KEY = folder.name + "/cert", folder.name + "/key"
subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                "-keyout", KEY, "-out", CERT], check=True, capture_output=True)
CLIENT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CLIENT.check_hostname, CLIENT.verify_mode = False, ssl.CERT_NONE


class Server:
    def __init__(self, tls):
        program = os.path.join(os.path.dirname(os.path.abspath(args.solvent)), "tests", "http_echo")
        flags = ["--tls", CERT, KEY] if tls else []
        self.tls = tls
        self.p = subprocess.Popen([program, *flags, f"close-seconds={CLOSE}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self.p.stdout.readline().split()[1])

    def raw(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return s

    def connect(self):
        return CLIENT.wrap_socket(self.raw(), do_handshake_on_connect=True) if self.tls else self.raw()

    def end(self):
        """Seconds from the request to end until it has ended well."""
        start = time.monotonic()
        self.p.stdin.close()
        try:
            rc = self.p.wait(CLOSE + GRACE)
        except subprocess.TimeoutExpired:
            if args.keep:
                raise SystemExit(f"process {self.p.pid} does not end")
            self.p.kill()
            raise AssertionError("it did not end in time") from None
        assert rc == 0, rc
        return time.monotonic() - start


def ask(s, text=ECHO):
    s.sendall(text)


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def told(s):
    """Reads one whole answer of /echo."""
    got = b""
    while not got.endswith(b"hello"):
        piece = s.recv(4096)
        if not piece:
            return False
        got += piece
    return True


def silent(server, rng):
    return [server.raw()]


def idle(server, rng):
    s = server.connect()
    for _ in range(rng.randint(1, 3)):
        ask(s)
        told(s)
    return [s]


def answered_and_left(server, rng):
    s = server.connect()
    ask(s)
    told(s)
    s.close()
    return []


def left_unanswered(server, rng):
    s = server.connect()
    ask(s, ECHO * rng.randint(1, 3))
    (reset if rng.random() < 0.5 else lambda c: c.close())(s)
    return []


def half_closed(server, rng):
    s = server.connect()
    ask(s, rng.choice([ECHO, b"GET /slow?n=100000&ms=3 HTTP/1.1\r\nHost: a\r\n\r\n"]))
    if not server.tls:
        s.shutdown(socket.SHUT_WR)
    return [s]


def left_in_a_stream(server, rng):
    s = server.connect()
    ask(s, b"GET /slow?n=100000&ms=%d HTTP/1.1\r\nHost: a\r\n\r\n" % rng.choice([1, 5, 5000]))
    if rng.random() < 0.7:
        s.recv(rng.choice([1, 4096]))
    (reset if rng.random() < 0.5 else lambda c: c.close())(s)
    return []


def refused(server, rng):
    s = server.connect()
    ask(s, rng.choice([b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\nxxxx", b"nonsense\r\n\r\n",
                       b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"]))
    return [s]


QUIET = [silent, idle, answered_and_left, left_unanswered, refused, left_in_a_stream]


def dawdling(server, rng):
    s = server.connect()
    ask(s, rng.choice([b"GET /ec", b"GET /echo HTTP/1.1\r\nHost: a\r\nX: ", b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\nabc"]))
    return [s]


def stalled(server, rng):
    s = server.connect()
    ask(s, b"GET /big?bytes=1000000000 HTTP/1.1\r\nHost: a\r\n\r\n")
    return [s]


def streaming(server, rng):
    s = server.connect()
    ask(s, b"GET /slow?n=100000&ms=%d HTTP/1.1\r\nHost: a\r\n\r\n" % rng.choice([1, 5, 5000]))
    return [s]


def read_on(socks, until):
    """What streams bring is read, so that they are not stalled."""
    for s in socks:
        s.settimeout(0.01)
    while time.monotonic() < until:
        for s in socks:
            try:
                s.recv(65536)
            except OSError:
                pass


def play(tls, kinds, n, rng, meanwhile=False):
    """n random clients, then the end; some leave, and new ones come, while it ends."""
    server = Server(tls)
    held = []
    for _ in range(n):
        try:
            held += rng.choice(kinds)(server, rng)
        except OSError:
            pass  # refused, and reset
    stop = time.monotonic() + CLOSE + GRACE
    threads = []
    if meanwhile:
        mine = held[::2]
        held = held[1::2]

        def leave():
            for s in mine:
                time.sleep(rng.random() * 0.02)
                try:
                    reset(s) if rng.random() < 0.5 else s.close()
                except OSError:
                    pass

        def come():
            while time.monotonic() < stop:
                try:
                    held.extend(rng.choice(kinds)(server, rng))
                except OSError:
                    return

        threads = [threading.Thread(target=f, daemon=True) for f in (leave, come)]
        threads.append(threading.Thread(target=read_on, args=(held[:20], time.monotonic() + CLOSE / 2), daemon=True))
    for t in threads:
        t.start()
    took = server.end()
    for t in threads:
        t.join()
    for s in held:
        s.close()
    return took


def rounds(tls, kinds, most, meanwhile=False):
    def one(i):
        rng = random.Random(args.seed * 1000 + i)
        return play(tls, kinds, rng.randint(1, 120), rng, meanwhile)

    with concurrent.futures.ThreadPoolExecutor(6) as six:  # each round waits more than it works
        worst = max(six.map(one, range(args.rounds)))
    print(f"       at most {worst:.2f} s", flush=True)
    assert worst < most, worst


def nobody_holds_up_the_end():
    rounds(False, QUIET, 1.9)


def nobody_holds_up_the_end_with_tls():
    rounds(True, QUIET, 1.9)


def those_who_dawdle_are_cut():
    rounds(False, QUIET + [dawdling, stalled, streaming, half_closed], CLOSE + GRACE)


def those_who_dawdle_are_cut_with_tls():
    rounds(True, QUIET + [dawdling, stalled, streaming, half_closed], CLOSE + GRACE)


def they_come_and_go_meanwhile():
    rounds(False, QUIET + [dawdling, stalled, streaming, half_closed], CLOSE + GRACE, True)


def they_come_and_go_meanwhile_with_tls():
    rounds(True, QUIET + [dawdling, stalled, streaming, half_closed], CLOSE + GRACE, True)


def idle_ones_are_many():
    for tls in False, True:
        rng = random.Random(args.seed)
        took = play(tls, [idle], 500, rng)
        print(f"       500 idle connections{' with TLS' if tls else ''}: {took:.2f} s", flush=True)
        assert took < 1.9


passed = failed = 0
for test in (nobody_holds_up_the_end, nobody_holds_up_the_end_with_tls, those_who_dawdle_are_cut, those_who_dawdle_are_cut_with_tls,
             they_come_and_go_meanwhile, they_come_and_go_meanwhile_with_tls, idle_ones_are_many):
    try:
        test()
        passed += 1
        print("ok    ", test.__name__, flush=True)
    except Exception as e:  # the next test may still tell something
        failed += 1
        print("FAILED", test.__name__, type(e).__name__, str(e)[:300], flush=True)
print(f"{passed} passed, {failed} failed")
raise SystemExit(failed != 0)
