#!/usr/bin/env python3
"""End to end: what those who run `solvent serve` rely on: an end in time, figures of the connections, the dashboard in ops/, traces
in the log, refusals in the form of each API, vectors that count as work, limits for a client's address.

Usage: operate.py SOLVENT. Prints a line a test, then "N passed, N failed".
"""
import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from solvent_server import BERT, LLAMA, MODELS, Server, run_tests, server  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def raw(s, text, read=True):
    """Bytes as they are, on a connection of their own; all that comes back, or the connection."""
    c = socket.create_connection(("127.0.0.1", s.port), timeout=30)
    c.sendall(text.encode() if isinstance(text, str) else text)
    if not read:
        return c
    got = b""
    with c, contextlib.suppress(ConnectionResetError):
        while piece := c.recv(65536):
            got += piece
    return got.decode()


def request(s, path, fields, *headers):
    body = json.dumps(fields)
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {s.key}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines) + "\r\n\r\n" + body


def logged(s, mark):
    """The line of the log whose path is `mark`, once it is there."""
    def lines():
        with open(s.log, encoding="utf-8") as f:
            return [e for e in map(json.loads, f) if e["path"] == mark]
    s.wait(lines)
    return lines()[-1]


def samples(s):
    """{name: [labels, ...]} of /metrics."""
    found = {}
    for line in s.ask("GET", "/metrics")[2].decode().splitlines():
        if not line.startswith("#"):
            name, labels = re.match(r"([\w:]+)(?:\{(.*)\})? ", line).groups()
            found.setdefault(name, []).append(dict(re.findall(r'(\w+)="([^"]*)"', labels or "")))
    return found


def connections_are_counted(s):
    opened, received, sent = (s.metric("solvent_http_" + n) for n in
                              ("connections_opened_total", "received_bytes_total", "sent_bytes_total"))
    idle = [raw(s, "", read=False) for _ in range(7)]
    s.wait(lambda: s.metric("solvent_http_connections") >= 8)  # and the one that asks
    answer = s.ask("POST", "/tokenize", {"model": LLAMA, "prompt": "x" * 1000})[2]
    assert s.metric("solvent_http_connections_opened_total") >= opened + 8
    assert s.metric("solvent_http_received_bytes_total") >= received + 1000
    assert s.metric("solvent_http_sent_bytes_total") >= sent + len(answer)
    for c in idle:
        c.close()
    s.wait(lambda: s.metric("solvent_http_connections") == 1)
    before = s.metric('solvent_http_answers_total{status="404"}')
    s.ask("GET", "/nothing")
    s.wait(lambda: s.metric('solvent_http_answers_total{status="404"}') == before + 1)
    reasons = {labels["reason"] for labels in samples(s)["solvent_http_cut_total"]}
    assert reasons == {"idle", "slow", "stalled", "full", "address", "left", "end"}


def traces(s):
    hex_of = lambda n: re.compile("[0-9a-f]{%d}" % n)
    secret = "congo=t61rcWkgMzE"
    status, headers, text = s.ask("GET", "/health", headers={"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": secret})
    line = logged(s, "/health")
    assert status == 200 and line["trace_id"] == TRACE and line["parent_span_id"] == SPAN
    assert hex_of(16).fullmatch(line["span_id"]) and line["span_id"] not in (SPAN, "0" * 16)
    for part in (TRACE, SPAN, secret, line["span_id"]):
        assert part not in str(headers) + text.decode()
    hostile = [None, "", "00", "01-" + TRACE + "-" + SPAN + "-01", "ff-" + TRACE + "-" + SPAN + "-01", f"00-{TRACE}-{SPAN}-01-x",
               f"00-{TRACE}-{SPAN}-1", f"00-{TRACE}-{SPAN}-0g", f"00-{TRACE.upper()}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01",
               f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE[1:]}-{SPAN}-01", f"00_{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01",
               '","status":"', "0" * 5000]
    seen = set()
    for i, value in enumerate(hostile):
        s.ask("GET", f"/hostile{i}", headers={} if value is None else {"traceparent": value})
        line = logged(s, f"/hostile{i}")
        assert line["status"] == 404 and "parent_span_id" not in line, (value, line)
        assert hex_of(32).fullmatch(line["trace_id"]) and line["trace_id"] not in seen | {TRACE, "0" * 32}
        seen.add(line["trace_id"])
    # Refused before anybody handles it, and it still has its line.
    said = raw(s, f"POST /refused HTTP/1.1\r\nHost: x\r\ntraceparent: 00-{TRACE}-{SPAN}-00\r\nContent-Length: 99999999\r\n\r\n")
    assert said.startswith("HTTP/1.1 413 ")
    line = logged(s, "/refused")
    assert line["status"] == 413 and line["trace_id"] == TRACE and line["peer"] == "127.0.0.1" and line["method"] == "POST"
    s.ask("GET", "/v1/models", key=False, headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})
    assert logged(s, "/v1/models")["status"] == 401 and logged(s, "/v1/models")["trace_id"] == TRACE


def refusals_have_the_form_of_their_api(s):
    def openai(answer):
        assert set(answer) == {"error"} and set(answer["error"]) == {"message", "type", "param", "code"}, answer

    def anthropic(answer):
        assert set(answer) == {"type", "error"} and answer["type"] == "error" and set(answer["error"]) == {"type", "message"}, answer

    def ollama(answer):
        assert set(answer) == {"error"} and isinstance(answer["error"], str), answer

    forms = {"/v1/chat/completions": openai, "/nothing": openai, "/v1/messagesX": openai, "/v1/messages": anthropic,
             "/v1/messages/count_tokens": anthropic, "/api/chat": ollama, "/api/nothing": ollama, "/%61pi/chat": ollama}
    for path, form in forms.items():
        many = "".join(f"X{i}: y\r\n" for i in range(150))
        for status, text in (
                (413, f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"),
                (413, f"POST {path}?beta=true HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"),
                (413, f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n500000\r\n" + "x" * 0x500000),
                (431, f"POST {path} HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
                (431, f"POST {path} HTTP/1.1\r\nHost: x\r\nX: {'y' * 17000}\r\n\r\n"),
                (400, f"POST {path} HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
                (405 if s.ask("POST", path, "{}")[0] != 404 else 404, f"PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")):
            head, _, body = raw(s, text).partition("\r\n\r\n")
            assert head.startswith(f"HTTP/1.1 {status} "), (path, status, head)
            assert "content-type: application/json" in head.lower()
            form(json.loads(body))


def slow_ones_are_told_in_their_form(s):
    held = {p: raw(s, f"POST {p} HTTP/1.1\r\nHost: x\r\nX: ", read=False) for p in ("/v1/messages/slow?beta=true", "/api/chat", "/v1/completions")}
    said = {}
    for path, c in held.items():
        with c:
            said[path] = c.recv(65536).decode()
    assert all(text.startswith("HTTP/1.1 408 ") for text in said.values()), said
    bodies = {p: json.loads(text.partition("\r\n\r\n")[2]) for p, text in said.items()}
    assert bodies["/v1/messages/slow?beta=true"]["error"]["type"] == "invalid_request_error" and bodies["/v1/messages/slow?beta=true"]["type"] == "error"
    assert isinstance(bodies["/api/chat"]["error"], str)
    assert bodies["/v1/completions"]["error"]["code"] is None
    s.wait(lambda: s.metric('solvent_http_cut_total{reason="slow"}') >= 3)
    assert logged(s, "/v1/messages/slow")["status"] == 408  # without what stood behind the path


def vectors_are_counted(s):
    name = f'{{model_name="{BERT}"}}'
    before = s.metric("vllm:prompt_tokens_total" + name)
    looked = s.metric("vllm:prefix_cache_queries_total" + name)
    ends = s.metric('vllm:request_success_total{finished_reason="stop"}')
    used = s.good("/v1/embeddings", model=BERT, input=["hello"] * 5)["usage"]["prompt_tokens"]
    used += s.good("/api/embed", model=BERT, input=["a b c"] * 3)["prompt_eval_count"]
    s.wait(lambda: s.metric("vllm:prompt_tokens_total" + name) == before + used)
    assert s.metric("vllm:prefix_cache_queries_total" + name) == looked
    assert s.metric('vllm:request_success_total{finished_reason="stop"}') == ends + 2


def the_dashboard_asks_for_what_there_is(s):
    with open(os.path.join(ROOT, "ops/grafana.json"), encoding="utf-8") as f:
        board = json.load(f)
    s.good("/v1/completions", model=LLAMA, prompt="x", max_tokens=2)
    s.wait(lambda: s.metric("solvent_http_answers_total") > 0)
    there = samples(s)
    assert board["schemaVersion"] >= 39 and [v["name"] for v in board["templating"]["list"]] == ["datasource", "instance", "model"]
    assert len({p["id"] for p in board["panels"]}) == len(board["panels"]) >= 16
    cells = [(x, y) for p in board["panels"] for g in [p["gridPos"]]
             for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24
    wanted = [t["expr"] for p in board["panels"] for t in p["targets"]]
    used = set()
    for text in wanted + [v["query"] for v in board["templating"]["list"][1:]]:
        selectors = re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", text) or [(re.match(r"label_values\(([\w:]+),", text)[1], "")]
        for name, labels in selectors:
            assert name in there, (name, text)
            used.add(name)
            known = {"instance", "job"} | {k for sample in there[name] for k in sample}
            asked = set(re.findall(r"(\w+)[=!]~?\"", labels)) | {k for by in re.findall(r"by \(([^)]*)\)", text) for k in re.findall(r"\w+", by)}
            assert asked <= known, (text, asked - known)
    for name in ("solvent_http_answers_total", "vllm:time_to_first_token_seconds_bucket", "vllm:inter_token_latency_seconds_bucket",
                 "vllm:kv_cache_usage_perc", "vllm:prefix_cache_hits_total", "vllm:num_requests_waiting", "solvent_http_connections"):
        assert name in used, name
    rules = [{"record": f"r:{i}", "expr": e.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$model", ".*")}
             for i, e in enumerate(wanted)]
    assert not any("$" in r["expr"] for r in rules)

    def check(rules):
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as f:
            json.dump({"groups": [{"name": "board", "rules": rules}]}, f)  # YAML, too
            f.flush()
            return subprocess.run(["promtool", "check", "rules", f.name], capture_output=True, text=True)
    r = check(rules)
    assert r.returncode == 0 and f"{len(rules)} rules found" in r.stdout, r.stdout + r.stderr
    assert check([{"record": "r", "expr": "sum(rate(x[5m]"}]).returncode != 0


def one_address_has_so_many_connections():
    with server("--max-conns-per-ip", "5", models=MODELS[:1]) as s:
        held = [raw(s, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n", read=False) for _ in range(5)]
        for c in held:
            assert c.recv(1000).startswith(b"HTTP/1.1 200 ")
        head, _, body = raw(s, "").partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 429 ") and "\r\nRetry-After: 1" in head
        assert json.loads(body)["error"]["code"] == "rate_limit_exceeded"
        with socket.create_connection(("127.0.0.1", s.port), source_address=("127.0.0.9", 0)) as other:
            other.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert other.recv(1000).startswith(b"HTTP/1.1 200 ")
        held.pop().close()
        held.pop().close()

        def counted():  # the places of those who left
            with contextlib.suppress(OSError):
                return s.metric('solvent_http_cut_total{reason="address"}') >= 1
        s.wait(counted)
        for c in held:
            c.close()


def vectors_wait_in_the_queue_and_leave_it():
    with server("--queue", "3", "--running", "2", "--ctx", "2048", models=MODELS, users=["ann", "bob"]) as s:
        many = dict(model=LLAMA, input=["word " * 300] * 2000)
        held = [raw(s, request(s, path, many), read=False) for path in ("/v1/embeddings", "/api/embed", "/v1/embeddings")]
        running, waiting = "vllm:num_requests_running", "vllm:num_requests_waiting"
        s.wait(lambda: s.metric(running) + s.metric(waiting) == 3)
        for path in "/v1/embeddings", "/api/embed":
            status, headers, text = s.ask("POST", path, dict(model=LLAMA, input="x"), key=s.users["ann"])
            assert status == 429 and headers["Retry-After"] == "1", text
        held.pop().close()
        s.wait(lambda: s.metric(running) + s.metric(waiting) == 2)
        # Another tenant does not wait for thousands of texts that came before its own, with words or vectors.
        for path, fields in (("/v1/embeddings", dict(model=LLAMA, input="x")), ("/v1/completions", dict(model=LLAMA, prompt="x", max_tokens=3))):
            assert s.ask("POST", path, fields, key=s.users["bob"])[0] == 200
        s.wait(lambda: s.metric(running) + s.metric(waiting) == 2)
        for c in held:
            c.close()
        s.wait(lambda: s.metric(running) + s.metric(waiting) == 0)


def the_end_is_bounded():
    """What is under way may end for a second, then what has not begun is told so, and all else is cut."""
    s = Server("--close-seconds", "1", "--running", "2", "--queue", "40", "--ctx", "100000", models=MODELS)
    endless = dict(model=LLAMA, prompt="Go on", max_tokens=90000, ignore_eos=True)
    plain = [raw(s, request(s, "/v1/completions", endless), read=False) for _ in range(6)]
    others = {"/v1/messages": dict(model=LLAMA, max_tokens=90000, messages=[{"role": "user", "content": "Hi"}]),
              "/api/generate": dict(model=LLAMA, prompt="Hi", stream=False, raw=True, options={"num_predict": 90000, "ignore_eos": True})}
    told = {path: raw(s, request(s, path, fields), read=False) for path, fields in others.items()}
    streams = [raw(s, request(s, "/v1/completions", {**endless, "stream": True}), read=False) for _ in range(6)]
    vectors = raw(s, request(s, "/v1/embeddings", dict(model=LLAMA, input=["word " * 300] * 400)), read=False)
    dawdling = raw(s, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nX: ", read=False)
    idle = [raw(s, "", read=False) for _ in range(200)]
    s.wait(lambda: s.metric("vllm:num_requests_waiting") >= 3)
    start = time.monotonic()
    s.p.send_signal(signal.SIGTERM)
    assert s.p.wait(1 + 5) == 0
    took = time.monotonic() - start
    for c in plain + [vectors]:
        head, _, body = c.recv(65536).decode().partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 503 ") and "\r\nRetry-After: 1" in head, head
        assert json.loads(body)["error"]["message"] == "the server is going down"
    assert json.loads(told["/v1/messages"].recv(65536).decode().partition("\r\n\r\n")[2])["error"]["type"] == "overloaded_error"
    assert json.loads(told["/api/generate"].recv(65536).decode().partition("\r\n\r\n")[2])["error"] == "the server is going down"
    with open(s.log, encoding="utf-8") as f:
        lines = [json.loads(line) for line in f]
    assert sum(e["status"] == 503 and e["cut"] for e in lines) >= len(plain) + 3, [e["status"] for e in lines]
    for c in plain + streams + idle + [vectors, dawdling, *told.values()]:
        c.close()
    s.folder.cleanup()
    assert took >= 1, took


def the_end_does_not_wait_for_nobody():
    s = Server(models=MODELS[:1])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: s.ask("GET", "/health"), range(50)))
    idle = [raw(s, "", read=False) for _ in range(100)]
    s.wait(lambda: s.metric("solvent_http_connections") == 101)
    start = time.monotonic()
    assert s.end() == 0 and time.monotonic() - start < 5
    for c in idle:
        c.close()


sys.exit(run_tests([connections_are_counted, traces, refusals_have_the_form_of_their_api, slow_ones_are_told_in_their_form, vectors_are_counted,
                    the_dashboard_asks_for_what_there_is],
                   [one_address_has_so_many_connections, vectors_wait_in_the_queue_and_leave_it, the_end_is_bounded,
                    the_end_does_not_wait_for_nobody]))
