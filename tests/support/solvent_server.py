"""`solvent serve` for the end-to-end tests: started on any free port with the tiny models of tests/data, asked by plain
HTTP. The program is the first argument of the script that includes this."""
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

SOLVENT = os.path.abspath(sys.argv[1])
DATA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data")
MODELS = [DATA + "/golden/llama_q4_0.gguf", DATA + "/golden/qwen2_q4_k_m.gguf", DATA + "/embed/bert_f32.gguf"]
CLOSE_SECONDS = 30
LLAMA, QWEN, BERT = "llama_q4_0", "qwen2_q4_k_m", "bert_f32"


class Server:
    """One server; its key is the administrator's, shown at the first start. users: names of more keys, in self.users."""

    def __init__(self, *flags, models=MODELS, users=(), env=None):
        self.folder = tempfile.TemporaryDirectory()
        self.keys = os.path.join(self.folder.name, "keys")
        self.log = os.path.join(self.folder.name, "log")
        command = [SOLVENT, "serve", "--port", "0", "--keys", self.keys, "--log", self.log, *flags]
        for m in models:
            command += ["-m", m]
        self.users = {name: self.add_key(name) for name in users}
        self.key = self.add_key("admin", "--admin") if users else None
        self.p = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        self.said = ""
        for line in self.p.stderr:
            self.said += line
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/$", line):
                self.port = int(found[1])
            if found := re.search(r"(sk-[0-9a-f]{64})$", line):
                self.key = found[1]
            if "curl" in line:
                break
        else:
            raise RuntimeError(self.said)
        threading.Thread(target=self.p.stderr.read, daemon=True).start()

    def add_key(self, name, *flags):
        r = subprocess.run([SOLVENT, "keys", "add", name, *flags, "--keys", self.keys], capture_output=True, text=True, check=True)
        return r.stdout.strip()

    def ask(self, method, path, body=None, key=True, headers=()):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        head = dict(headers)
        if key:
            head["Authorization"] = "Bearer " + (self.key if key is True else key)
        data = body if isinstance(body, (bytes, str, type(None))) else json.dumps(body)
        with contextlib.closing(c):  # on a machine so busy that we give up, too: an end waits for what is under way
            c.request(method, path, data, head)
            r = c.getresponse()
            return r.status, r.headers, r.read()

    def post(self, path, **fields):
        status, _, text = self.ask("POST", path, fields)
        return status, json.loads(text)

    def good(self, path, **fields):
        status, answer = self.post(path, **fields)
        assert status == 200, (status, answer)
        return answer

    def events(self, path, **fields):
        status, headers, text = self.ask("POST", path, {**fields, "stream": True})
        assert status == 200 and headers["Content-Type"] == "text/event-stream", (status, text)
        parts = text.decode().split("\n\n")
        assert parts[-1] == "" and all(p.startswith("data: ") for p in parts[:-1])
        assert parts[-2] == "data: [DONE]"
        return [json.loads(p[6:]) for p in parts[:-2]]

    def named_events(self, path, **fields):
        """Of a stream whose events have names: (name, data)."""
        status, headers, text = self.ask("POST", path, {**fields, "stream": True})
        assert status == 200 and headers["Content-Type"] == "text/event-stream", (status, text)
        parts = text.decode().split("\n\n")
        assert parts.pop() == ""
        found = [re.fullmatch("event: (.+)\ndata: (.+)", p) for p in parts]
        assert all(found), parts
        return [(f[1], json.loads(f[2])) for f in found]

    def metric(self, name):
        text = self.ask("GET", "/metrics")[2].decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + "{")
                   or line.startswith(name + " "))

    def wait(self, what, seconds=20):
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    def end(self):
        self.p.send_signal(signal.SIGTERM)
        rc = self.p.wait(CLOSE_SECONDS + 5)  # what is under way may end; five seconds later all is over
        self.folder.cleanup()
        return rc


@contextlib.contextmanager
def server(*flags, **more):
    s = Server(*flags, **more)
    try:
        yield s
        assert s.p.poll() is None, "the server is gone"
    finally:
        if s.p.poll() is None:
            assert s.end() == 0


def run_tests(with_server, alone, start=lambda: Server("--ctx", "2048")):
    """One server for all of the first, which get it; a line a test, then the counts. Returns the exit status."""
    passed = failed = 0
    shared = start()
    for test in with_server + alone:
        try:
            if test in with_server:
                test(shared)
            else:
                test()
            passed += 1
            print("ok    ", test.__name__, flush=True)
        except Exception as e:  # the next test may still tell something
            failed += 1
            print("FAILED", test.__name__, type(e).__name__, str(e)[:600], "line",
                  e.__traceback__.tb_next and e.__traceback__.tb_next.tb_lineno, flush=True)
            if shared.p.poll() is not None:
                shared = start()
    if shared.end() != 0:
        failed += 1
        print("FAILED: the server did not end well")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
