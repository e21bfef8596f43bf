#!/usr/bin/env python3
"""End to end: the HTTP layer under many clients, and what they cost.

Usage: http_load.py SOLVENT [--idle N]. Runs tests/http_echo, which stands beside SOLVENT, with N (10,000, or what
`ulimit -Hn` allows) idle kept-alive connections, 1,000 streams, 500 clients that send their headers slowly and 500 that
do not read, while a client of good manners is timed. Prints what was measured, a line a test, then
"N passed, N failed"; only answers, memory and descriptors are judged, not times.
"""
import argparse
import http.client
import multiprocessing
import os
import resource
import selectors
import socket
import subprocess
import time

args = argparse.ArgumentParser()
args.add_argument("solvent")
args.add_argument("--idle", type=int, default=10000)
args = args.parse_args()

STREAMS, SLOW, STALLED = 1000, 500, 500
LINES, EVERY_MS = 40, 200
SOFT, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))
IDLE = min(args.idle, HARD - 4000) if HARD > 0 else args.idle
if IDLE < 1:
    raise SystemExit(f"http_load.py: ulimit -Hn is {HARD}; more than 4000 are needed")
ECHO = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"
GIB = 1 << 30


class Server:
    def __init__(self):
        program = os.path.join(os.path.dirname(os.path.abspath(args.solvent)), "tests", "http_echo")
        limits = {"connections": IDLE + STREAMS + SLOW + STALLED + 500, "header-seconds": 8, "stalled-seconds": 8,
                  "idle-seconds": 600, "close-seconds": 2}
        self.process = subprocess.Popen([program, *[f"{k}={v}" for k, v in limits.items()]],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline().split()[1])

    def connect(self, receive=0):
        s = socket.socket()
        if receive:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        s.settimeout(60)
        s.connect(("127.0.0.1", self.port))
        return s

    def rss(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) * 1024

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def info(self):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        c.request("GET", "/info")
        words = c.getresponse().read().decode().split()
        c.close()
        return dict(zip(words[::2], map(int, words[1::2])))


def echo(s):
    s.sendall(ECHO)
    got = b""
    while not got.endswith(b"hello"):
        piece = s.recv(4096)
        assert piece, "the server hung up"
        got += piece


def polite(port, seconds, out):
    """A process of its own, so that the others do not take part of its time."""
    times, until = [], time.monotonic() + seconds
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while time.monotonic() < until:
        start = time.monotonic()
        c.request("POST", "/echo", body=b"x" * 1000)
        assert c.getresponse().read() == b"x" * 1000
        times.append(time.monotonic() - start)
        time.sleep(0.002)
    out.put(sorted(times))


def timed(server, seconds):
    out = multiprocessing.Queue()
    p = multiprocessing.Process(target=polite, args=(server.port, seconds, out))
    p.start()
    return p, out


def report(what, timing):
    p, out = timing
    times = out.get(timeout=120)
    p.join()
    print(f"{what}: {len(times)} requests, p50 {times[len(times) // 2] * 1e3:.2f} ms, "
          f"p99 {times[len(times) * 99 // 100] * 1e3:.2f} ms, most {times[-1] * 1e3:.2f} ms", flush=True)
    assert len(times) > 20


def unchunk(raw):
    """The body of a whole chunked answer."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        n = int(size, 16)
        body += rest[:n]
        assert rest[n:n + 2] == b"\r\n"
        rest = rest[n + 2:]
        if not n:
            assert not rest
            return body


def read_all(sockets):
    """{socket: all bytes up to the end of the stream, or of the connection}"""
    got = {s: [] for s in sockets}
    with selectors.DefaultSelector() as poll:
        for s in sockets:
            s.setblocking(False)
            poll.register(s, selectors.EVENT_READ)
        while poll.get_map():
            events = poll.select(60)
            assert events, f"{len(poll.get_map())} streams stand still"
            for key, _ in events:
                try:
                    piece = key.fileobj.recv(65536)
                except ConnectionError:
                    piece = b""
                got[key.fileobj].append(piece)
                if not piece or piece.endswith(b"\r\n0\r\n\r\n") or b"".join(got[key.fileobj][-8:]).endswith(
                        b"\r\n0\r\n\r\n"):
                    poll.unregister(key.fileobj)
    return {s: b"".join(pieces) for s, pieces in got.items()}


def alone():
    report("alone", timed(server, 3))


def idle_connections():
    before = server.rss()
    for _ in range(IDLE):
        s = server.connect()
        echo(s)
        idle.append(s)
    assert server.info()["connections"] >= IDLE
    after = server.rss()
    print(f"{IDLE} idle connections: {after / 2**20:.0f} MiB, {(after - before) / IDLE / 1024:.1f} KiB each", flush=True)
    assert after < GIB
    report(f"beside {IDLE} idle connections", timed(server, 3))


def streams():
    timing = timed(server, LINES * EVERY_MS / 1000)
    many = [server.connect() for _ in range(STREAMS)]
    for s in many:
        s.sendall(f"GET /slow?n={LINES}&ms={EVERY_MS} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    most = server.info()["streams"]
    rss = server.rss()
    for raw in read_all(many).values():
        assert unchunk(raw) == b"line\n" * LINES
    print(f"{most} streams at once: {rss / 2**20:.0f} MiB", flush=True)
    report(f"beside {most} streams", timing)
    assert rss < GIB
    for s in many:
        s.close()


def dawdlers():
    cut = server.info()["cut"]
    timing = timed(server, 12)
    slow = [server.connect() for _ in range(SLOW)]
    stalled = [server.connect(4096) for _ in range(STALLED)]
    for s in slow:
        s.sendall(b"GET /echo HTTP/1.1\r\nHost: a\r\nX: ")
    for s in stalled:
        s.sendall(b"GET /big?bytes=100000000 HTTP/1.1\r\nHost: a\r\n\r\n")
    most = 0
    for _ in range(48):
        for s in slow:
            try:
                s.send(b"x")
            except OSError:
                pass  # already cut
        most = max(most, server.rss())
        time.sleep(0.25)
    print(f"{SLOW} slow and {STALLED} stalled clients: {most / 2**20:.0f} MiB", flush=True)
    report("beside them", timing)
    assert most < GIB
    until = time.monotonic() + 60
    while server.info()["cut"] - cut < SLOW + STALLED and time.monotonic() < until:
        time.sleep(0.2)
    info = server.info()
    assert info["cut"] - cut >= SLOW + STALLED and not info["streams"], info
    refused = [raw for raw in read_all(slow).values() if raw.startswith(b"HTTP/1.1 408 ")]
    print(f"{len(refused)} of {SLOW} slow clients were told 408")
    for s in slow + stalled:
        s.close()


def idle_connections_still_answer():
    for s in idle:
        echo(s)


def nothing_is_left():
    for s in idle:
        s.close()
    until = time.monotonic() + 60
    while server.info()["connections"] > 1 and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(2.5) # lingering sockets
    assert server.info()["connections"] == 1
    while server.files() > files and time.monotonic() < until:
        time.sleep(0.2)
    print(f"in the end: {server.rss() / 2**20:.0f} MiB, {server.files()} files open, {files} at the start")
    assert server.files() <= files
    server.process.stdin.close()
    assert server.process.wait(60) == 0


server, idle = Server(), []
files = server.files()
passed = failed = 0
for test in alone, idle_connections, streams, dawdlers, idle_connections_still_answer, nothing_is_left:
    start = time.monotonic()
    try:
        test()
        passed += 1
        print(f"ok   {test.__name__} ({time.monotonic() - start:.0f} s)", flush=True)
    except Exception as e:
        failed += 1
        print(f"FAIL {test.__name__}: {type(e).__name__} {e}", flush=True)
server.process.kill()
print(f"{passed} passed, {failed} failed")
raise SystemExit(failed != 0)
