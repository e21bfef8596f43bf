#!/usr/bin/env python3
"""End to end: `solvent serve` by plain HTTP, on the tiny models of tests/data: shapes of the OpenAI API, every
field at its ends, keys, streams, cancelling, many at once, going down.

Usage: serve.py SOLVENT. Prints a line a test, then "N passed, N failed".
"""
import base64
import concurrent.futures
import contextlib
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from solvent_server import BERT, LLAMA, MODELS, QWEN, SOLVENT, Server, run_tests, server  # noqa: E402

HI = [{"role": "user", "content": "Hi"}]


def error(answer, **want):
    assert set(answer["error"]) == {"message", "type", "param", "code"}, answer
    for name, value in want.items():
        assert answer["error"][name] == value, (name, answer)


def keys_are_wanted(s):
    for key in (False, "sk-wrong", s.key[:-1], s.key + "0"):
        status, headers, text = s.ask("GET", "/v1/models", key=key)
        assert status == 401 and headers["WWW-Authenticate"]
        error(json.loads(text), code="invalid_api_key")
    assert s.ask("GET", "/health", key=False)[0] == 200
    assert s.ask("GET", "/", key=False)[0] == 200
    assert s.ask("GET", "/v1/models", key=False, headers={"x-api-key": s.key})[0] == 200
    assert s.key not in open(s.keys, encoding="utf-8").read()
    assert os.stat(s.keys).st_mode & 0o777 == 0o600


def models(s):
    status, headers, text = s.ask("GET", "/v1/models")
    listed = json.loads(text)
    assert status == 200 and headers["X-Request-Id"]
    assert [m["id"] for m in listed["data"]] == [LLAMA, QWEN, BERT] and listed["object"] == "list"
    assert json.loads(s.ask("GET", "/v1/models/" + QWEN)[2])["id"] == QWEN
    assert s.ask("GET", "/v1/models/none")[0] == 404


def a_chat(s):
    a = s.good("/v1/chat/completions", model=LLAMA, messages=HI, max_tokens=8, temperature=0)
    assert a["object"] == "chat.completion" and a["model"] == LLAMA and a["id"].startswith("chatcmpl-")
    choice, = a["choices"]
    assert choice["message"]["role"] == "assistant" and isinstance(choice["message"]["content"], str)
    assert choice["finish_reason"] in ("length", "stop") and choice["logprobs"] is None
    u = a["usage"]
    assert u["total_tokens"] == u["prompt_tokens"] + u["completion_tokens"] and u["completion_tokens"] <= 8
    again = s.good("/v1/chat/completions", model=LLAMA, messages=HI, max_completion_tokens=8, temperature=0)
    assert again["choices"] == a["choices"]


def a_stream_is_the_same_answer(s):
    fields = dict(model=LLAMA, messages=HI, max_tokens=20, temperature=0)
    whole = s.good("/v1/chat/completions", **fields)
    events = s.events("/v1/chat/completions", **fields)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in e["choices"][0]["delta"] for e in events[1:])
    assert len({(e["id"], e["created"], e["model"], e["system_fingerprint"]) for e in events}) == 1
    assert all("usage" not in e for e in events)
    text = "".join(e["choices"][0]["delta"].get("content", "") for e in events)
    assert text == whole["choices"][0]["message"]["content"]
    assert [e["choices"][0]["finish_reason"] for e in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1]["choices"][0]["delta"] == {}
    assert events[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    events = s.events("/v1/chat/completions", **fields, stream_options={"include_usage": True})
    assert events[-1]["choices"] == [] and events[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert all(e["usage"] is None for e in events[:-1])


def several_choices(s):
    fields = dict(model=QWEN, messages=HI, max_tokens=12, n=3, seed=5)
    a = s.good("/v1/chat/completions", **fields)
    texts = [c["message"]["content"] for c in a["choices"]]
    assert [c["index"] for c in a["choices"]] == [0, 1, 2] and len(set(texts)) > 1
    streamed = ["", "", ""]
    for e in s.events("/v1/chat/completions", **fields):
        for c in e["choices"]:
            streamed[c["index"]] += c["delta"].get("content", "")
    assert streamed == texts, (streamed, texts)


def logprobs(s):
    a = s.good("/v1/chat/completions", model=LLAMA, messages=HI, max_tokens=6, temperature=0, logprobs=True, top_logprobs=5)
    rows = a["choices"][0]["logprobs"]["content"]
    assert len(rows) == a["usage"]["completion_tokens"]
    for row in rows:
        tops = [t["logprob"] for t in row["top_logprobs"]]
        assert len(tops) == 5 and tops == sorted(tops, reverse=True) and abs(tops[0] - row["logprob"]) < 1e-5
        assert all(isinstance(b, int) for b in row["bytes"])
    assert b"".join(bytes(r["bytes"]) for r in rows).decode("utf-8", "replace").strip() == \
        a["choices"][0]["message"]["content"].strip()
    old = s.good("/v1/completions", model=LLAMA, prompt="Once", max_tokens=5, temperature=0, logprobs=2)["choices"][0]
    assert len(old["logprobs"]["tokens"]) == len(old["logprobs"]["token_logprobs"]) == 5
    assert all(len(t) <= 2 for t in old["logprobs"]["top_logprobs"])
    assert old["logprobs"]["text_offset"][0] == 0


def completions(s):
    a = s.good("/v1/completions", model=LLAMA, prompt="Once upon", max_tokens=10, temperature=0)
    assert a["object"] == "text_completion" and a["usage"]["completion_tokens"] == 10
    text = a["choices"][0]["text"]
    ids = s.good("/tokenize", model=LLAMA, prompt="Once upon", add_special_tokens=True)["tokens"]
    assert s.good("/v1/completions", model=LLAMA, prompt=ids, max_tokens=10, temperature=0)["choices"][0]["text"] == text
    both = s.good("/v1/completions", model=LLAMA, prompt=["Once upon", "The end"], max_tokens=10, temperature=0)
    assert [c["index"] for c in both["choices"]] == [0, 1] and both["choices"][0]["text"] == text
    echoed = s.good("/v1/completions", model=LLAMA, prompt="Once upon", max_tokens=10, temperature=0, echo=True)
    assert echoed["choices"][0]["text"].endswith(text) and "Once upon" in echoed["choices"][0]["text"]
    streamed = "".join(e["choices"][0]["text"] for e in s.events(
        "/v1/completions", model=LLAMA, prompt="Once upon", max_tokens=10, temperature=0, echo=True))
    assert streamed == echoed["choices"][0]["text"]


def stops_and_biases(s):
    text = s.good("/v1/completions", model=LLAMA, prompt="Once", max_tokens=40, temperature=0)["choices"][0]["text"]
    word = text[10:13]
    a = s.good("/v1/completions", model=LLAMA, prompt="Once", max_tokens=40, temperature=0, stop=[word])
    assert a["choices"][0]["text"] == text[:text.index(word)] and a["choices"][0]["finish_reason"] == "stop"
    first = s.good("/v1/completions", model=LLAMA, prompt="Once", max_tokens=1, temperature=0, logprobs=1)["choices"][0]
    token = s.good("/tokenize", model=LLAMA, prompt="Once")["tokens"]
    assert token
    banned = {str(i): -100 for i in range(3, 250)}
    a = s.good("/v1/completions", model=LLAMA, prompt="Once", max_tokens=1, temperature=0, logit_bias=banned)
    assert a["choices"][0]["text"] != first["text"] or not first["text"]


def tokens_and_back(s):
    for model in (LLAMA, QWEN):
        text = "Grüße, 世界! \t x = 1"
        ids = s.good("/tokenize", model=model, prompt=text)
        assert ids["count"] == len(ids["tokens"])
        assert s.good("/detokenize", model=model, tokens=ids["tokens"])["prompt"] == text


def embeddings(s):
    a = s.good("/v1/embeddings", model=BERT, input=["hello", "a b c"])
    assert [d["index"] for d in a["data"]] == [0, 1] and a["usage"]["prompt_tokens"] > 0
    packed = s.good("/v1/embeddings", model=BERT, input=["hello", "a b c"], encoding_format="base64")
    for x, y in zip(a["data"], packed["data"]):
        raw = base64.b64decode(y["embedding"])
        assert [struct.unpack("<f", struct.pack("<f", v))[0] for v in x["embedding"]] == \
            list(struct.unpack(f"<{len(raw) // 4}f", raw))
        assert abs(sum(v * v for v in x["embedding"]) - 1) < 1e-4
    assert len(s.good("/v1/embeddings", model=LLAMA, input="a decoder, too")["data"][0]["embedding"]) > 0
    for bad in ("", [], [""], [[]], 5, {"a": 1}, [1.5], [-1], [10**9], ["x"] * 2049, None):
        status, answer = s.post("/v1/embeddings", model=BERT, input=bad)
        assert status == 400, (bad, status)
        error(answer, param="input")
    status, answer = s.post("/v1/chat/completions", model=BERT, messages=HI)
    assert status == 400


VALUES = [-1, 0, 1, 2**31, 2**53, 2**63, 1e308, float("nan"), "1", None, [], {}, True, False, -2**63, 0.5, "", ["x"], {"a": "b"}, [[]], "\ud800"]
# What a request of each route needs, and what keeps its answer short.
BASES = {
    "/v1/chat/completions": dict(model=LLAMA, messages=HI, max_tokens=2), "/v1/completions": dict(model=LLAMA, prompt="Hi", max_tokens=2),
    "/v1/embeddings": dict(model=BERT, input="Hi"), "/v1/responses": dict(model=LLAMA, input="Hi", max_output_tokens=2),
    "/v1/messages": dict(model=LLAMA, messages=HI, max_tokens=2), "/v1/messages/count_tokens": dict(model=LLAMA, messages=HI),
    "/api/chat": dict(model=LLAMA, messages=HI, options={"num_predict": 2}), "/api/generate": dict(model=QWEN, prompt="Hi", options={"num_predict": 2}),
    "/api/embed": dict(model=BERT, input="Hi"), "/api/embeddings": dict(model=BERT, prompt="Hi"), "/api/show": dict(model=LLAMA),
    "/api/pull": dict(model=LLAMA), "/tokenize": dict(model=LLAMA, prompt="Hi"), "/detokenize": dict(model=LLAMA, tokens=[1])}


def places(doc, schema, at=()):
    """Where a schema of the document has fields: paths of names, and 0 for what an array holds."""
    if "$ref" in schema:
        yield from places(doc, doc["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], at)
    for part in schema.get("allOf", []) + schema.get("anyOf", []):
        yield from places(doc, part, at)
    for key, below in ((0, "items"), ("5", "additionalProperties")):
        if isinstance(schema.get(below), dict):
            yield at + (key,)
            yield from places(doc, schema[below], at + (key,))
    for name, part in schema.get("properties", {}).items():
        yield at + (name,)
        yield from places(doc, part, at + (name,))


def put(into, at, value):
    """A copy with a value at a path, whatever stood in the way."""
    if not at:
        return value
    if at[0] == 0:
        rest = into if isinstance(into, list) else []
        return [put(rest[0] if rest else {}, at[1:], value)] + rest[1:]
    rest = into if isinstance(into, dict) else {}
    return {**rest, at[0]: put(rest.get(at[0]), at[1:], value)}


def fields_at_their_ends():
    """Every field of every request that /openapi.json knows: answered as it says, or refused."""
    with server("--ctx", "256", "-t", "1") as s:
        doc = json.loads(s.ask("GET", "/openapi.json")[2])
        seen = set()
        for path, ops in doc["paths"].items():
            if "requestBody" not in ops.get("post", {}):
                continue
            told = ops["post"]["responses"]
            body = ops["post"]["requestBody"]["content"]["application/json"]["schema"]
            for at in sorted(set(places(doc, body)), key=str):
                for value in VALUES:
                    status, headers, text = s.ask("POST", path, put(BASES[path], at, value))
                    seen.add((path, status))
                    assert str(status) in told and status < 500, (path, at, value, status, text)
                    if status == 200:
                        assert headers["Content-Type"] in told["200"]["content"], (path, at, value, headers["Content-Type"])
                    elif path.startswith("/api/"):
                        assert isinstance(json.loads(text)["error"], str), (path, at, value, text)
                    elif path.startswith("/v1/messages"):
                        assert json.loads(text)["error"]["message"], (path, at, value, text)
                    else:
                        error(json.loads(text))
        assert {path for path, status in seen if status == 200} == set(BASES) == {path for path, status in seen if status == 400}


def malformed_bodies(s):
    deep = "[" * 100 + "]" * 100
    for body in ("", "{", "[]", "null", '{"model":"a","model":"b"}', '{"a":' + deep + "}", "\x00", '{"model":"\ud800"}'
                 .encode("utf-8", "surrogatepass"), b"\xff\xfe", '{"model":1e999}', '{"model":"' + "x" * 100000 + '"}'):
        status, _, text = s.ask("POST", "/v1/chat/completions", body)
        assert status in (400, 404), (body[:40], status)
        error(json.loads(text))
    for messages in ([{}], [{"role": "king", "content": "x"}], [{"role": "user", "content": 5}],
                     [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}],
                     ["x"], [None], [{"role": "assistant", "tool_calls": [{}]}]):
        status, answer = s.post("/v1/chat/completions", model=LLAMA, messages=messages)
        assert status == 400, messages
        error(answer, param="messages[0]")
    assert s.ask("POST", "/v1/nothing", {})[0] == 404
    assert s.ask("GET", "/v1/chat/completions")[0] == 405
    status, answer = s.post("/v1/chat/completions", model="gpt-9", messages=HI)
    assert status == 404
    error(answer, code="model_not_found")
    status, answer = s.post("/v1/completions", model=LLAMA, prompt="word " * 20000)
    assert status == 400
    error(answer, code="context_length_exceeded")


def parts_and_roles(s):
    plain = s.good("/v1/chat/completions", model=QWEN, max_tokens=5, temperature=0,
                   messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi there"}])
    parts = s.good("/v1/chat/completions", model=QWEN, max_tokens=5, temperature=0,
                   messages=[{"role": "developer", "content": "Be brief."},
                             {"role": "user", "content": [{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}]}])
    assert plain["choices"] == parts["choices"] and plain["usage"]["prompt_tokens"] == parts["usage"]["prompt_tokens"]


def answers_of_a_form(s):
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
              "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3}}, "required": ["name", "age", "tags"],
              "additionalProperties": False}
    fields = dict(model=QWEN, messages=HI, max_tokens=150)
    form = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}}
    for seed in range(8):
        a = s.good("/v1/chat/completions", **fields, seed=seed, temperature=1.5, response_format=form)["choices"][0]
        if a["finish_reason"] == "stop":
            person = json.loads(a["message"]["content"])
            assert list(person) == ["name", "age", "tags"] and 0 <= person["age"] <= 150
            assert len(person["name"]) <= 8 and set(person["tags"]) <= {"a", "b"} and len(person["tags"]) <= 3
    streamed = "".join(e["choices"][0]["delta"].get("content", "") for e in s.events(
        "/v1/chat/completions", **fields, seed=3, response_format=form))
    assert streamed == s.good("/v1/chat/completions", **fields, seed=3, response_format=form)["choices"][0]["message"]["content"]
    for seed in range(4):
        a = s.good("/v1/completions", model=LLAMA, prompt="x", max_tokens=60, seed=seed, regex="[a-f]{3}-[0-9]{2}")["choices"][0]
        assert re.fullmatch("[a-f]{3}-[0-9]{2}", a["text"]) and a["finish_reason"] == "stop"
        a = s.good("/v1/completions", model=LLAMA, prompt="x", max_tokens=60, seed=seed, logprobs=1,
                   grammar='root ::= ("yes" | "no") "!"')["choices"][0]
        assert a["text"] in ("yes!", "no!") and "".join(a["logprobs"]["tokens"]).strip() == a["text"]
    a = s.good("/v1/chat/completions", **fields, seed=1, response_format={"type": "json_object"})["choices"][0]
    assert a["finish_reason"] == "length" or isinstance(json.loads(a["message"]["content"]), dict)
    for bad, words in (({"type": "json_schema"}, "schema"), ({"type": "xml"}, "text, json_object"), (5, "text, json_object"),
                       ({"type": "json_schema", "json_schema": {"schema": {"not": {"type": "string"}}}}, "not"),
                       ({"type": "json_schema", "json_schema": {"schema": {"$ref": "#/nowhere"}}}, "ref")):
        status, answer = s.post("/v1/chat/completions", **fields, response_format=bad)
        assert status == 400 and words in answer["error"]["message"], answer
        error(answer, param="response_format")
    for field, bad in (("grammar", "root ::= ("), ("grammar", 5), ("regex", "(?=x)"), ("regex", "a{1000000}")):
        status, answer = s.post("/v1/completions", model=LLAMA, prompt="x", **{field: bad})
        assert status == 400, (field, bad)
        error(answer, param=field)


TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["c", "f"]}},
    "required": ["city", "unit"], "additionalProperties": False}}},
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]


def tools_that_must_be_called(s):
    fields = dict(model=QWEN, messages=HI, max_tokens=120, tools=TOOLS, seed=4)
    one = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", one):
        a = s.good("/v1/chat/completions", **fields, tool_choice=choice)["choices"][0]
        assert a["finish_reason"] == "tool_calls" and a["message"]["content"] is None, a
        call, = a["message"]["tool_calls"]
        assert call["type"] == "function" and call["id"].startswith("call_")
        arguments = json.loads(call["function"]["arguments"])
        if choice == one:
            assert call["function"]["name"] == "get_weather" and set(arguments) == {"city", "unit"}
        events = s.events("/v1/chat/completions", **fields, tool_choice=choice)
        deltas = [e["choices"][0]["delta"]["tool_calls"][0] for e in events if "tool_calls" in e["choices"][0]["delta"]]
        assert deltas[0]["function"] == {"name": call["function"]["name"], "arguments": ""} and deltas[0]["index"] == 0
        assert all(set(d) == {"index", "function"} for d in deltas[1:])
        assert "".join(d["function"]["arguments"] for d in deltas) == call["function"]["arguments"]
        assert not any(e["choices"][0]["delta"].get("content") for e in events)
        assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"
    a = s.good("/v1/chat/completions", **fields, tool_choice="none")
    b = s.good("/v1/chat/completions", model=QWEN, messages=HI, max_tokens=120, seed=4)
    assert a["choices"] == b["choices"]
    auto = s.good("/v1/chat/completions", **fields)
    assert auto["usage"]["prompt_tokens"] > b["usage"]["prompt_tokens"], "the tools are not in the prompt"
    turn = HI + [{"role": "assistant", "content": None, "tool_calls": [call]},
                 {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}]
    assert s.good("/v1/chat/completions", **{**fields, "messages": turn})["usage"]["prompt_tokens"] > auto["usage"]["prompt_tokens"]
    for tools, choice, param in ((5, "auto", "tools"), ([{}], "auto", "tools"), (TOOLS, "maybe", "tool_choice"), (None, "required", "tool_choice"),
                                 (TOOLS, {"type": "function", "function": {"name": "none"}}, "tool_choice")):
        status, answer = s.post("/v1/chat/completions", **{**fields, "tools": tools}, tool_choice=choice)
        assert status == 400, (tools, choice, answer)
        error(answer, param=param)


def a_prefix_is_computed_once(s):
    text = "The same long beginning of many a prompt. " * 5
    first = s.good("/v1/completions", model=LLAMA, prompt=text + "One", max_tokens=4, temperature=0)
    again = s.good("/v1/completions", model=LLAMA, prompt=text + "One", max_tokens=4, temperature=0)
    assert again["choices"] == first["choices"]
    cached = again["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached >= 32 and cached < again["usage"]["prompt_tokens"]
    key = subprocess.run([SOLVENT, "keys", "add", "other", "--keys", s.keys], capture_output=True, text=True, check=True)
    assert key.stdout.startswith("sk-")


def many_at_once_are_what_each_is_alone(s):
    bodies = [dict(model=LLAMA, prompt="Number %d " % i * (1 + i * 7 % 13), max_tokens=20 + i % 30, temperature=0)
              for i in range(48)]
    alone = [s.good("/v1/completions", **b)["choices"] for b in bodies]
    with concurrent.futures.ThreadPoolExecutor(48) as pool:
        together = list(pool.map(lambda b: s.good("/v1/completions", **b)["choices"], bodies))
    assert together == alone


def who_leaves_frees_the_slot(s):
    running = "vllm:num_requests_running"
    for _ in range(3):
        socks = []
        for i in range(8):
            c = socket.create_connection(("127.0.0.1", s.port))
            body = json.dumps(dict(model=LLAMA, prompt="Go on %d" % i, max_tokens=100000, ignore_eos=True, stream=i % 2 == 0))
            c.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {s.key}\r\n"
                      f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
            socks.append(c)
        s.wait(lambda: s.metric(running) > 0)
        for c in socks:
            c.close()
        s.wait(lambda: s.metric(running) == 0 and s.metric("vllm:num_requests_waiting") == 0)


def request(s, path, body):
    data = json.dumps(body)
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {s.key}\r\nContent-Length: {len(data)}\r\n\r\n{data}").encode()


def is_free(s):
    return not any(s.metric("vllm:" + name) for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"))


def a_thousand_leave():
    """At any moment of a request or its answer, by any route, with and without a reset: a second later nothing is left."""
    asked = [("/v1/chat/completions", dict(messages=HI, max_tokens=9999)), ("/v1/completions", dict(prompt=["a", "b " * 300], n=2, max_tokens=9999)),
             ("/v1/responses", dict(input="Hi")), ("/v1/messages", dict(messages=HI, max_tokens=9999)),
             ("/api/chat", dict(messages=HI)), ("/api/generate", dict(prompt="Hi"))]

    def leave(seed):
        r = random.Random(seed)
        path, body = r.choice(asked)
        more = {"options": {"ignore_eos": True}} if path.startswith("/api/") else {"ignore_eos": True}
        whole = request(s, path, {"model": LLAMA, "stream": r.random() < 0.7, **body, **more})
        with socket.create_connection(("127.0.0.1", s.port)) as c:
            c.sendall(whole if r.random() < 0.8 else whole[:r.randrange(len(whole))])
            time.sleep(r.choice((0, 0, 0.01, 0.1)) * r.random())
            if r.random() < 0.5:
                c.settimeout(0.05)
                with contextlib.suppress(OSError):
                    c.recv(r.randrange(1, 5000))
            if r.random() < 0.5:
                c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with server("--ctx", "2048", models=MODELS[:1]) as s:
        s.good("/v1/completions", model=LLAMA, prompt="x", max_tokens=1)
        time.sleep(0.5)
        files = len(os.listdir(f"/proc/{s.p.pid}/fd"))
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            list(pool.map(leave, range(1000)))
        s.wait(lambda: is_free(s), 1)
        s.wait(lambda: len(os.listdir(f"/proc/{s.p.pid}/fd")) <= files)


def who_does_not_read_holds_up_nobody():
    """More streams than are computed side by side, which nobody reads: they wait, the others do not."""
    with server("--ctx", "4096", "--running", "4", "-t", "1", models=MODELS[:1]) as s:
        socks = []
        for i in range(12):
            c = socket.socket()
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            c.connect(("127.0.0.1", s.port))
            c.sendall(request(s, "/v1/chat/completions", dict(model=LLAMA, messages=HI, max_tokens=4000, ignore_eos=True, stream=True,
                                                              logprobs=True, top_logprobs=20)))
            socks.append(c)

        def stand_still():
            before = s.metric("solvent_steps_total")
            time.sleep(0.5)
            return before == s.metric("solvent_steps_total")
        s.wait(stand_still, 300)
        assert s.metric("vllm:num_requests_running") + s.metric("vllm:num_requests_waiting") == 12
        s.good("/v1/completions", model=LLAMA, prompt="x", max_tokens=8)
        for c in socks:
            c.close()
        s.wait(lambda: is_free(s), 1)


def metrics(s):
    text = s.ask("GET", "/metrics")[2].decode()
    names = set()
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP|TYPE) [a-zA-Z0-9_:]+ .+", line), line
        else:
            found = re.fullmatch(r'([a-zA-Z0-9_:]+)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [-+0-9.eE]+', line)
            assert found, line
            names.add(found[1])
    assert {"vllm:num_requests_running", "vllm:generation_tokens_total", "vllm:time_to_first_token_seconds_bucket"} <= names
    assert s.metric("vllm:generation_tokens_total") > 0
    r = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    said = [line for line in r.stderr.splitlines() if not line.endswith("metric names should not contain ':'")]
    assert r.returncode in (0, 3) and not said, r.stderr


def the_log_says_who_and_what(s):
    s.good("/v1/completions", model=LLAMA, prompt="secret words", max_tokens=2)
    s.wait(lambda: "completions" in open(s.log, encoding="utf-8").read().splitlines()[-1])
    lines = [json.loads(line) for line in open(s.log, encoding="utf-8")]
    last = lines[-1]
    assert last["key"] == "admin" and last["status"] == 200 and last["output_tokens"] == 2 and last["model"] == LLAMA
    assert "secret" not in open(s.log, encoding="utf-8").read() and s.key not in open(s.log, encoding="utf-8").read()


def the_page(s):
    status, headers, text = s.ask("GET", "/", key=False)
    assert status == 200 and b"Solvent" in text and headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for name in re.findall(rb'(?:src|href)="(/web/[^"]+)"', text):
        assert s.ask("GET", name.decode(), key=False)[0] == 200, name
    assert s.ask("GET", "/web/../keys", key=False)[0] == 404


def a_queue_that_is_full():
    with server("--queue", "4", "--running", "2", "--ctx", "4096", models=MODELS[:1]) as s:
        body = dict(model=LLAMA, prompt="Go on", max_tokens=1500, ignore_eos=True)
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: s.ask("POST", "/v1/completions", body), range(12)))
        codes = sorted({a[0] for a in answers})
        assert codes == [200, 429], codes
        busy = next(a for a in answers if a[0] == 429)
        assert busy[1]["Retry-After"]
        error(json.loads(busy[2]), code="rate_limit_exceeded")
        assert s.post("/v1/completions", model=LLAMA, prompt="x", n=5)[0] == 429


def few_pages_for_many():
    """Jobs that do not fit the pages together are put back and computed again: each still gets its answer."""
    with server("--kv-mib", "1", "--ctx", "512", models=MODELS[:1]) as s:
        bodies = [dict(model=LLAMA, prompt="N%d " % i * 30, max_tokens=150, temperature=0, ignore_eos=True) for i in range(24)]
        alone = [s.good("/v1/completions", **b)["choices"] for b in bodies]
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            together = list(pool.map(lambda b: s.good("/v1/completions", **b)["choices"], bodies))
        assert together == alone


def speculation_changes_nothing():
    bodies = [dict(model=LLAMA, prompt="Again and again %d, again and again %d, " % (i, i), max_tokens=60 + i, temperature=0.8 * (i % 3 == 1),
                   seed=i, ignore_eos=True, stream=False, **({"regex": "([a-z]{1,9}: of course\n){4}"} if i % 3 == 2 else {})) for i in range(12)]
    plain = None
    for flags in (["--speculate", "off"], ["--speculate", "6"], []):
        with server(*flags, models=MODELS[:1]) as s:
            alone = [s.good("/v1/completions", **b)["choices"] for b in bodies]
            with concurrent.futures.ThreadPoolExecutor(12) as pool:
                together = list(pool.map(lambda b: s.good("/v1/completions", **b)["choices"], bodies))
            plain = plain or alone
            assert alone == plain and together == plain
            drafted = s.metric("vllm:spec_decode_num_draft_tokens_total")
            assert (drafted > 0) == (flags != ["--speculate", "off"]), drafted
            assert s.metric("vllm:spec_decode_num_accepted_tokens_total") <= drafted
            assert s.metric("vllm:spec_decode_num_drafts_total") <= drafted
            assert s.metric("solvent_forced_tokens_total") > 0
    for wrong in ("16", "-1", "x"):
        r = subprocess.run([SOLVENT, "serve", "-m", MODELS[0], "--speculate", wrong], capture_output=True, text=True)
        assert r.returncode == 2 and "auto, off or 1 to 15" in r.stderr


def going_down_lets_answers_end():
    s = Server("--ctx", "4096", models=MODELS[:1])
    body = dict(model=LLAMA, prompt="Go on", max_tokens=1500, ignore_eos=True)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        under_way = pool.submit(s.ask, "POST", "/v1/completions", body)
        s.wait(lambda: s.metric("vllm:num_requests_running") > 0)
        s.p.send_signal(signal.SIGTERM)
        status, _, text = under_way.result()
    assert status == 200 and json.loads(text)["usage"]["completion_tokens"] == 1500
    assert s.p.wait(20) == 0
    s.folder.cleanup()


def flags_that_cannot_be():
    for flags, words in ((["--models", "/nothing.ini"], "cannot read"), (["-m", "/nothing.gguf"], "cannot read"),
                         (["-m", MODELS[0], "-m", MODELS[0]], "two models"), (["-m", MODELS[0], "--tls-cert", "x"], "go together"),
                         (["-m", MODELS[0], "--keys", MODELS[0]], "line 1"), (["-m", MODELS[0], "extra"], "flags only")):
        r = subprocess.run([SOLVENT, "serve", "--port", "0", *flags], capture_output=True, text=True, timeout=30)
        assert r.returncode in (1, 2) and words in r.stderr and r.stderr.count("\n") == 1, (flags, r.returncode, r.stderr)
    r = subprocess.run([SOLVENT, "serve", "--limits"], capture_output=True, text=True, check=True)
    assert "body" in r.stdout


def a_server_without_keys():
    with server("--no-keys", models=MODELS[:1]) as s:
        assert s.key is None and not os.path.exists(s.keys)
        for host, status in (("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("evil.example", 403), ("localhost.evil", 403)):
            assert s.ask("GET", "/v1/models", key=False, headers={"Host": host})[0] == status, host


def keys_on_the_command_line():
    with tempfile.TemporaryDirectory() as folder:
        run = lambda *a: subprocess.run([SOLVENT, "keys", *a, "--keys", folder + "/keys"], capture_output=True, text=True)
        key = run("add", "anna", "--admin").stdout.strip()
        assert re.fullmatch(r"sk-[0-9a-f]{64}", key) and run("add", "bert").returncode == 0
        assert run("add", "anna").returncode == 2 and run("add", "a b").returncode == 2
        assert run("list").stdout.split() == ["anna", "admin", "bert", "user"]
        assert run("rm", "anna").returncode == 0 and run("list").stdout.split() == ["bert", "user"]
        assert run("rm", "anna").returncode == 1 and run("fly").returncode == 2


WITH_SERVER = [keys_are_wanted, models, a_chat, a_stream_is_the_same_answer, several_choices, logprobs, completions,
               stops_and_biases, tokens_and_back, embeddings, malformed_bodies, parts_and_roles, answers_of_a_form,
               tools_that_must_be_called, a_prefix_is_computed_once, many_at_once_are_what_each_is_alone, who_leaves_frees_the_slot, metrics,
               the_log_says_who_and_what, the_page]
ALONE = [fields_at_their_ends, a_thousand_leave, who_does_not_read_holds_up_nobody, a_queue_that_is_full, few_pages_for_many, speculation_changes_nothing, going_down_lets_answers_end, flags_that_cannot_be, a_server_without_keys,
         keys_on_the_command_line]


sys.exit(run_tests(WITH_SERVER, ALONE))
