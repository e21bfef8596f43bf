#!/usr/bin/env python3
"""End to end: several tenants on one server at once, by every route and dialect: streams, answers of a form, tools,
stored responses, vectors, errors, clients that leave in the midst, more than the pages and the queue can hold.
Meanwhile: nothing of a tenant is seen by another, not even that it was computed; greedy and seeded answers are those
that the same requests got alone, token for token, log-probability for log-probability. Afterwards: all slots and pages
are free within a second, no descriptor is left, memory has not grown since a quarter of the time.

Each tenant has secret words (random letters) in all that it sends. Prompts ask for them to be repeated, so that models
say them, and any eight letters of one in what another tenant gets are a leak.

Usage: traffic.py SOLVENT [--seconds N] [--seed N] [--clients N] [--threads N] [--model FILE]. Without a model: smollm2-135m of the
user's store, or if that was never pulled, the tiny ones. Prints what went on, a line a test, then "N passed, N failed".
"""
import argparse
import collections
import http.client
import json
import os
import random
import re
import socket
import string
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from solvent_server import BERT, LLAMA, MODELS, SOLVENT, Server  # noqa: E402

args = argparse.ArgumentParser()
args.add_argument("solvent")
args.add_argument("--seconds", type=int, default=60)
args.add_argument("--seed", type=int, default=1)
args.add_argument("--clients", type=int, default=20)
args.add_argument("--threads", type=int, default=0)
args.add_argument("--model")
args = args.parse_args()

STORE = os.path.join(os.environ.get("XDG_DATA_HOME", os.path.expanduser("~/.local/share")), "solvent/models/smollm2-135m.gguf")
FILE = os.path.abspath(args.model) if args.model else STORE if os.path.exists(STORE) else MODELS[0]
MODEL = os.path.basename(FILE).removesuffix(".gguf")
PLACES = ("system", "prompt", "tool", "argument", "schema", "metadata", "stored", "embedded", "stop", "user")
LETTERS = 8  # of a secret that must not be seen together
# What differs between two equal answers.
VOLATILE = {"id", "item_id", "call_id", "created", "created_at", "total_duration", "load_duration", "prompt_eval_duration",
            "eval_duration", "cached_tokens", "input_tokens", "cache_read_input_tokens", "previous_response_id"}
LONG = " ".join(f"Rule {i}: be brief, be exact, and never tell anyone what the others said." for i in range(5))


class Tenant:
    def __init__(self, name, key, rng):
        self.name, self.key = name, key
        self.secrets = {place: "".join(rng.choices(string.ascii_lowercase, k=12)) for place in PLACES}
        self.kept = collections.deque()  # stored responses: (id, answer)
        self.lock = threading.Lock()

    def __getattr__(self, place):
        return self.secrets[place]


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in VOLATILE}
    return [plain(v) for v in value] if isinstance(value, list) else value


def parse(headers, text):
    """The JSON documents of an answer: one, or those of a stream's events, which several choices share in any order."""
    kind = headers["Content-Type"] or ""
    if kind.startswith("text/event-stream"):
        events = [json.loads(line[6:]) for line in text.decode().split("\n") if line.startswith("data: ") and line != "data: [DONE]"]
        return sorted(events, key=lambda e: e["choices"][0]["index"] if e.get("choices") else 1 << 20)
    if kind.startswith("application/x-ndjson"):
        return [json.loads(line) for line in text.decode().splitlines()]
    return [json.loads(text)] if kind.startswith("application/json") else []


def joined(documents):
    """What is said in pieces is put together: all strings of the same name, one after the other."""
    by_name = collections.defaultdict(list)

    def walk(value, name):
        if isinstance(value, str):
            by_name[name].append(value)
        elif isinstance(value, dict):
            for k, v in value.items():
                walk(v, k)
        elif isinstance(value, list):
            for v in value:
                walk(v, name)
    walk(documents, "")
    return {name: "".join(parts) for name, parts in by_name.items()}


def fixed_requests(t, model):
    """Answers to these are known from the start, when nobody else asked."""
    copy = f"The word is {t.prompt}. The word is {t.prompt}. The word is"
    say = [{"role": "system", "content": f"Your name is {t.system}."}, {"role": "user", "content": f"Repeat: {t.prompt} {t.prompt} {t.prompt}"}]
    schema = {"type": "object", "properties": {"word": {"enum": [t.schema, t.prompt]}, t.argument: {"type": "boolean"}},
              "required": ["word", t.argument], "additionalProperties": False}
    tool = {"name": t.tool, "description": f"Of {t.system}."}
    greedy = dict(model=model, temperature=0)
    return [
        ("/v1/chat/completions", dict(greedy, messages=say, max_tokens=20, logprobs=True, top_logprobs=3)),
        ("/v1/chat/completions", dict(greedy, messages=say, max_tokens=20, stream=True, stream_options={"include_usage": True})),
        ("/v1/chat/completions", dict(model=model, messages=say, max_tokens=20, temperature=1, seed=7, n=3, user=t.user)),
        ("/v1/chat/completions", dict(greedy, messages=say, max_tokens=60, response_format={
            "type": "json_schema", "json_schema": {"name": t.schema, "schema": schema}})),
        ("/v1/chat/completions", dict(greedy, messages=say, max_tokens=80, stream=True, tool_choice="required",
                                      tools=[{"type": "function", "function": {**tool, "parameters": schema}}])),
        ("/v1/completions", dict(greedy, prompt=copy, max_tokens=24, echo=True, logprobs=3)),
        ("/v1/completions", dict(greedy, prompt=[LONG + copy, copy], max_tokens=24, stream=True, stop=[t.stop])),
        ("/v1/completions", dict(greedy, prompt=LONG + copy, max_tokens=16, regex=f"({t.prompt}|[a-f]{{9}})")),
        ("/v1/responses", dict(greedy, input=say[1]["content"], instructions=say[0]["content"], max_output_tokens=20,
                               store=False, metadata={"m": t.metadata})),
        ("/v1/responses", dict(greedy, input=say, max_output_tokens=20, store=False, stream=True, tools=[
            {"type": "function", **tool, "parameters": schema}])),
        ("/v1/messages", dict(greedy, system=say[0]["content"], messages=say[1:], max_tokens=20, stop_sequences=[t.stop])),
        ("/v1/messages", dict(greedy, system=LONG, messages=say[1:], max_tokens=20, stream=True, tools=[{**tool, "input_schema": schema}])),
        ("/api/chat", dict(model=model, messages=say, options={"temperature": 0, "num_predict": 20}, format=schema)),
        ("/api/generate", dict(model=model, prompt=copy, raw=True, options={"temperature": 0, "num_predict": 20})),
        ("/api/generate", dict(model=model, prompt=copy, system=t.system, stream=False, options={"temperature": 0, "num_predict": 20})),
        ("/v1/embeddings", dict(model=BERT, input=[t.embedded, "one " + t.embedded], encoding_format="base64")),
        ("/api/embed", dict(model=BERT, input=t.embedded)),
        ("/v1/messages/count_tokens", dict(model=model, messages=say[1:])),
        ("/tokenize", dict(model=model, prompt=t.prompt)),
    ]


class World:
    """The server, its tenants, and what was seen: counts and faults of all clients."""

    def __init__(self):
        rng = random.Random(args.seed)
        self.server = Server("--ctx", "1024", "--kv-mib", "2" if FILE == MODELS[0] else "90", "--running", "12", "--queue", "32", "-t", str(args.threads),
                             models=list(dict.fromkeys([FILE, MODELS[0], MODELS[2]])),
                             users=("anna", "bert", "cleo", "dora"))
        self.tenants = [Tenant(name, key, rng) for name, key in self.server.users.items()]
        self.grams = {w[i:i + LETTERS]: t for t in self.tenants for w in t.secrets.values() for i in range(len(w) - LETTERS + 1)}
        self.counts, self.faults, self.lock = collections.Counter(), collections.defaultdict(list), threading.Lock()
        self.stop = threading.Event()

    def count(self, what, n=1):
        with self.lock:
            self.counts[what] += n

    def fault(self, test, *what):
        with self.lock:
            self.faults[test].append(what)
            if len(self.faults[test]) <= 5:
                print("      ", test, "not:", " ".join(str(w) for w in what)[:2000], flush=True)

    def owners(self, text):
        """The tenants whose secrets are in a text."""
        found = set()
        for word in re.findall("[a-z]{%d,}" % LETTERS, text.lower()):
            found |= {self.grams.get(word[i:i + LETTERS]) for i in range(len(word) - LETTERS + 1)}
        return found - {None}

    def look(self, tenant, what, headers, text):
        """Nothing of others in an answer, as it came and put together."""
        try:
            parts = joined(parse(headers, text))
        except ValueError:  # cut in the midst
            parts = {}
        for part in [text.decode("utf-8", "replace"), str(headers), *parts.values()]:
            if others := self.owners(part) - {tenant}:
                self.fault("no_secret_was_seen_by_another", tenant.name, "sees", [t.name for t in others], "in", what, part[:400])
        for name in ("content", "text", "delta", "response"):
            if tenant in self.owners(parts.get(name, "")):
                self.count("answers in which a tenant's own secrets are seen")
                break

    def files(self):
        return len(os.listdir(f"/proc/{self.server.p.pid}/fd"))

    def rss(self):
        with open(f"/proc/{self.server.p.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1024

    def busy(self):
        return [self.server.metric("vllm:" + m) for m in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")]


class Client:
    """One who does this and that for any of the tenants, on a connection that they share as behind a proxy."""

    def __init__(self, world, number):
        self.w, self.rng, self.c = world, random.Random(args.seed * 1000 + number), None

    def ask(self, t, path, body=None, method="POST", good=(200,)):
        """(status, headers, bytes); 429 may always be. What is not as expected is noted."""
        data = None if body is None else body if isinstance(body, (str, bytes)) else json.dumps(body)
        for fresh in (False, True):
            if fresh or not self.c or self.rng.random() < 0.2:
                if self.c:
                    self.c.close()
                self.c, fresh = http.client.HTTPConnection("127.0.0.1", self.w.server.port, timeout=600), True
            try:
                self.c.request(method, path, data, {"Authorization": "Bearer " + t.key})
                r = self.c.getresponse()
                status, headers, text = r.status, r.headers, r.read()
                break
            except (http.client.RemoteDisconnected, ConnectionError):
                if fresh:
                    raise
        self.w.count(f"status {status}")
        if status not in good and status != 429:
            self.w.fault("every_answer_has_a_status_that_fits", method, path, status, text[:300])
        self.w.look(t, f"{method} {path}", headers, text)
        return status, headers, text

    def model(self):
        """One that says what it is told, or one that is quick."""
        return self.rng.choice((MODEL, LLAMA))

    def replay(self):
        t = self.rng.choice(self.w.tenants)
        (path, body), alone = self.rng.choice(self.w.known[t])
        status, headers, text = self.ask(t, path, body)
        if status != 200:
            return
        self.w.count("answers compared with those given alone")
        now = plain(parse(headers, text))
        if now != alone:
            self.w.fault("answers_are_those_given_alone", t.name, path, body, "\nalone", alone, "\nnow", now)

    def sampled(self):
        t, r = self.rng.choice(self.w.tenants), self.rng
        messages = [{"role": "user", "content": f"Tell me of {t.prompt} and {r.random()}. " * r.randint(1, 10)}]
        n, most = r.choice((1, 1, 1, 2, 4)), r.randint(1, 60)
        path, body = r.choice((
            ("/v1/chat/completions", dict(messages=messages, max_tokens=most, n=n)),
            ("/v1/completions", dict(prompt=messages[0]["content"], max_tokens=most, n=n, echo=r.random() < 0.5)),
            ("/v1/responses", dict(input=messages, max_output_tokens=most, store=False)),
            ("/v1/messages", dict(messages=messages, max_tokens=most, system=t.system)),
            ("/api/chat", dict(messages=messages, options={"num_predict": most}))))
        self.ask(t, path, {"model": self.model(), "stream": r.random() < 0.5, **body})

    def much(self, model=None):
        """Long answers: those of a few clients want more pages, those of ten more places in the queue than there are."""
        t = self.rng.choice(self.w.tenants)
        self.ask(t, "/v1/completions", dict(model=model or self.model(), prompt=f"{t.prompt} {self.rng.random()} " * 10, n=4, max_tokens=200, ignore_eos=True))

    def shared_prefix(self):
        """What one tenant had computed is computed again for another."""
        a, b = self.rng.sample(self.w.tenants, 2)
        text = f"{self.rng.random()} " * 12
        ask, path, of = self.rng.choice((
            (dict(prompt=text, max_tokens=1), "/v1/completions", lambda u: u["prompt_tokens_details"]["cached_tokens"]),
            (dict(messages=[{"role": "system", "content": text}, {"role": "user", "content": "x"}], max_tokens=1), "/v1/chat/completions",
             lambda u: u["prompt_tokens_details"]["cached_tokens"]),
            (dict(input="x", instructions=text, max_output_tokens=1, store=False), "/v1/responses", lambda u: u["input_tokens_details"]["cached_tokens"]),
            (dict(system=text, messages=[{"role": "user", "content": "x"}], max_tokens=1), "/v1/messages", lambda u: u["cache_read_input_tokens"])))
        found, model = [], self.model()
        for t in (a, a, b):
            status, _, answer = self.ask(t, path, {"model": model, **ask})
            if status != 200:
                return
            found.append(of(json.loads(answer)["usage"]))
        self.w.count("prefixes asked by two tenants")
        self.w.count("of which the first found its own again", found[1] > 0)
        if found[0] or found[2]:
            self.w.fault("no_prefix_is_shared_by_tenants", a.name, b.name, path, found)

    def stored(self):
        a, b = self.rng.sample(self.w.tenants, 2)
        status, headers, text = self.ask(a, "/v1/responses", dict(
            model=MODEL, input=f"Repeat: {a.stored} {a.stored}", instructions=a.system, metadata={"m": a.metadata}, user=a.user,
            max_output_tokens=8, stream=self.rng.random() < 0.5))
        if status != 200:
            return
        answer = parse(headers, text)[-1]
        answer = answer.get("response", answer)
        at = "/v1/responses/" + answer["id"]
        self.w.count("stored responses asked for by another tenant")
        self.ask(b, at, method="GET", good=(404,))
        self.ask(b, at, method="DELETE", good=(404,))
        status, _, text = self.ask(b, "/v1/responses", dict(model=MODEL, input="What did I say?", max_output_tokens=8,
                                                            previous_response_id=answer["id"]), good=(400,))
        status, _, text = self.ask(a, at, method="GET")
        if status == 200 and json.loads(text) != answer:
            self.w.fault("stored_responses_stay_as_they_are", answer, text)
        self.ask(a, "/v1/responses", dict(model=MODEL, input="And then?", max_output_tokens=8, previous_response_id=answer["id"], store=False))
        with a.lock:
            a.kept.append((answer["id"], answer))
            at, answer = a.kept[0] if len(a.kept) > 20 else (None, None)
            if at:
                a.kept.popleft()
        if at:
            status, _, text = self.ask(a, "/v1/responses/" + at, method="GET")
            if status == 200 and json.loads(text) != answer:
                self.w.fault("stored_responses_stay_as_they_are", answer, text)
            self.ask(a, "/v1/responses/" + at, method="DELETE")
            self.ask(a, "/v1/responses/" + at, method="GET", good=(404,))

    def context(self):
        """Ollama's context is tokens: what they say is looked at, too."""
        t = self.rng.choice(self.w.tenants)
        status, _, text = self.ask(t, "/api/generate", dict(model=MODEL, prompt=f"Repeat: {t.prompt}", stream=False, options={"num_predict": 8}))
        if status == 200:
            context = json.loads(text)["context"]
            self.ask(t, "/detokenize", dict(model=MODEL, tokens=context))
            self.ask(t, "/api/generate", dict(model=MODEL, prompt="Again", context=context, options={"num_predict": 8}))

    def wrong(self):
        t = self.rng.choice(self.w.tenants)
        p = t.prompt
        path, body, status = self.rng.choice((
            ("/v1/chat/completions", '{"model": "' + p, 400), ("/v1/chat/completions", {"model": p, "messages": []}, 404),
            ("/v1/chat/completions", {"model": MODEL, "messages": [{"role": p, "content": p}]}, 400),
            ("/v1/completions", {"model": MODEL, "prompt": (p + " ") * 2000}, 400),
            ("/v1/completions", {"model": MODEL, "prompt": p, "max_tokens": -1}, 400),
            ("/v1/completions", {"model": MODEL, "prompt": p, "regex": "(?=" + p}, 400),
            ("/v1/responses", {"model": MODEL, "input": p, "previous_response_id": p}, 400),
            ("/v1/messages", {"model": MODEL, "messages": [{"role": "user", "content": p}]}, 400),
            ("/v1/messages", {"model": p, "messages": []}, 404), ("/api/chat", {"model": p}, 404),
            ("/api/generate", {"model": MODEL, "prompt": p, "format": p}, 400), ("/api/show", {"model": p}, 404),
            ("/v1/embeddings", {"model": BERT, "input": [p, []]}, 400), ("/v1/nothing", {}, 404)))
        self.ask(t, path, body, good=(status,))

    def look_around(self):
        t = self.rng.choice(self.w.tenants)
        self.ask(t, self.rng.choice(("/v1/models", "/api/tags", "/api/ps", "/metrics", "/openapi.json", "/", "/health")), method="GET")

    def leave(self):
        """Goes in the midst of the answer, of the request, or reads so slowly that the answer waits for it."""
        t, r = self.rng.choice(self.w.tenants), self.rng
        path, body = r.choice((
            ("/v1/chat/completions", dict(messages=[{"role": "user", "content": t.prompt}], max_tokens=300)),
            ("/v1/completions", dict(prompt=[t.prompt, LONG], max_tokens=300, n=2)), ("/v1/completions", dict(prompt=LONG * 3, max_tokens=5)),
            ("/v1/responses", dict(input=t.prompt, max_output_tokens=300)),
            ("/v1/messages", dict(messages=[{"role": "user", "content": t.prompt}], max_tokens=300)),
            ("/api/generate", dict(prompt=t.prompt, raw=True, options={"num_predict": 300, "ignore_eos": True}))))
        data = json.dumps({"model": self.model(), "stream": r.random() < 0.7, "ignore_eos": True, **body}).encode()
        whole = (f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {t.key}\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data
        got, how = b"", r.random()
        with socket.socket() as s:
            if how < 0.1:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            s.connect(("127.0.0.1", self.w.server.port))
            s.sendall(whole if how < 0.8 else whole[:r.randint(1, len(whole) - 1)])
            if how < 0.7:
                s.settimeout(r.choice((0.01, 0.1, 1)))
                try:
                    for _ in range(r.randint(0, 20)):
                        got += s.recv(2048)
                        if how < 0.1:
                            time.sleep(0.1)
                except TimeoutError:
                    pass
            if r.random() < 0.5:  # with a reset
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.w.count("clients that left")
        self.w.look(t, path, {"Content-Type": ""}, got)

    def live(self):
        deeds = {self.replay: 30, self.leave: 20, self.sampled: 15, self.shared_prefix: 8, self.stored: 8, self.wrong: 8, self.much: 8,
                 self.context: 3, self.look_around: 3}
        self.much(MODEL)
        while not self.w.stop.is_set():
            deed, = self.rng.choices(list(deeds), deeds.values())
            try:
                deed()
                self.w.count(deed.__name__)
            except Exception as e:  # tells of itself at the end
                self.w.fault("every_answer_has_a_status_that_fits", deed.__name__, type(e).__name__, e)
                if self.w.server.p.poll() is not None:
                    return
                self.c = None
        if self.c:
            self.c.close()


def traffic(w):
    """The hour, or less: (MiB after a quarter of the time, at the end; seconds until nothing ran)."""
    clients = [threading.Thread(target=Client(w, i).live) for i in range(args.clients)]
    start = time.monotonic()
    quarter, told = None, 0
    for c in clients:
        c.start()
    while time.monotonic() < start + args.seconds and w.server.p.poll() is None:
        time.sleep(0.5)
        passed = time.monotonic() - start
        if quarter is None and passed > args.seconds / 4:
            quarter = w.rss()
        if passed - told >= 300:
            told = passed
            print(f"       after {passed:.0f} s: {w.rss():.0f} MiB, {w.files()} files, {sum(len(f) for f in w.faults.values())} faults,",
                  w.counts["answers compared with those given alone"], "answers compared", flush=True)
    w.stop.set()
    for c in clients:
        c.join()
    assert w.server.p.poll() is None, "the server is gone"
    end = time.monotonic()
    # Those that left last may still be in a step.
    while any(w.busy()) and time.monotonic() < end + 30:
        time.sleep(0.01)
    return quarter, w.rss(), time.monotonic() - end


TESTS = ("no_secret_was_seen_by_another", "no_prefix_is_shared_by_tenants", "stored_responses_stay_as_they_are",
         "answers_are_those_given_alone", "every_answer_has_a_status_that_fits", "the_log_and_the_metrics_tell_nothing",
         "slots_and_pages_are_free_within_a_second", "no_descriptor_is_left", "memory_does_not_grow", "there_was_something_to_see")


def judge(w, files, quarter, rss, freed):
    with open(w.server.log, encoding="utf-8") as f:
        log = f.read()
    for name, text in (("the log", log), ("/metrics", w.server.ask("GET", "/metrics")[2].decode())):
        if w.owners(text) or any(t.key in text for t in w.tenants):
            w.fault("the_log_and_the_metrics_tell_nothing", "a secret in", name)
    if len([json.loads(line) for line in log.splitlines()]) < w.counts["status 200"]:
        w.fault("the_log_and_the_metrics_tell_nothing", "there are lines missing")
    if freed > 1:
        w.fault("slots_and_pages_are_free_within_a_second", f"{freed:.2f} s", w.busy())
    until = time.monotonic() + 10  # sockets that linger
    while w.files() > files and time.monotonic() < until:
        time.sleep(0.1)
    if w.files() > files:
        w.fault("no_descriptor_is_left", w.files(), "files,", files, "at the start")
    if rss > quarter + 24:
        w.fault("memory_does_not_grow", f"{quarter:.0f} MiB, then {rss:.0f}")
    for what in ("answers in which a tenant's own secrets are seen", "answers compared with those given alone", "clients that left",
                 "of which the first found its own again", "stored responses asked for by another tenant", "status 429", "preemptions"):
        if not w.counts[what]:
            w.fault("there_was_something_to_see", "none:", what)


def main():
    w = World()
    first, start = Client(w, -1), time.monotonic()
    w.known = {}
    for t in w.tenants:
        w.known[t] = []
        for path, body in fixed_requests(t, MODEL) + fixed_requests(t, LLAMA):
            _, headers, text = first.ask(t, path, body)
            w.known[t].append(((path, body), plain(parse(headers, text))))
    first.c.close()
    print(f"       asked alone in {time.monotonic() - start:.0f} s", flush=True)
    time.sleep(0.5)
    files = w.files()
    quarter, rss, freed = traffic(w)
    w.counts["preemptions"] = int(w.server.metric("vllm:num_preemptions_total"))
    w.counts["tokens computed"] = int(w.server.metric("vllm:prompt_tokens_total") + w.server.metric("vllm:generation_tokens_total"))
    for what, n in sorted(w.counts.items()):
        print(f"       {n:9} {what}")
    print(f"       {MODEL}, {args.seconds} s, {args.clients} clients: {quarter:.0f} MiB after a quarter, {rss:.0f} at the end; "
          f"all free after {freed:.2f} s")
    judge(w, files, quarter, rss, freed)
    failed = 0
    for name in TESTS:
        faults = w.faults[name]
        failed += bool(faults)
        print("FAILED" if faults else "ok    ", name, f"({len(faults)})" if faults else "")
    if w.server.end() != 0:
        failed += 1
        print("FAILED: the server did not end well")
    print(f"{len(TESTS) - failed} passed, {failed} failed")
    return 1 if failed else 0


assert SOLVENT
sys.exit(main())
