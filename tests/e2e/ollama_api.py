#!/usr/bin/env python3
"""End to end: Ollama's API (/api/...) of `solvent serve` on the tiny models of tests/data, by plain HTTP and
by the official `ollama` package: shapes, a stream is the whole answer, what is refused, hostile fields.

Usage: ollama_api.py SOLVENT. Prints a line a test, then "N passed, N failed".
"""
import json
import math
import os
import re
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))
import e2e_venv

e2e_venv.enter()

import ollama

from solvent_server import BERT, LLAMA, MODELS, QWEN, run_tests, server

HI = [{"role": "user", "content": "Hi"}]
GREEDY = dict(options={"temperature": 0, "num_predict": 12})
TIME = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
ENDS = {"done", "done_reason", "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration",
        "eval_count", "eval_duration"}


def whole(s, path, **fields):
    return s.good(path, **fields, stream=False)


def lines(s, path, **fields):
    status, headers, text = s.ask("POST", path, fields)
    assert status == 200 and headers["Content-Type"] == "application/x-ndjson", (status, text)
    assert text.endswith(b"\n")
    return [json.loads(line) for line in text.splitlines()]


def error(text, word=""):
    answer = json.loads(text)
    assert list(answer) == ["error"] and isinstance(answer["error"], str) and word in answer["error"], answer


def errors_have_ollamas_shape(s):
    for key in (False, "sk-wrong"):
        status, headers, text = s.ask("POST", "/api/chat", {"model": LLAMA, "messages": HI}, key=key)
        assert status == 401 and headers["WWW-Authenticate"]
        error(text, "API key")
        for path in ("/api/tags", "/api/ps", "/api/version"):
            assert s.ask("GET", path, key=key)[0] == 401
    assert s.ask("POST", "/api/nothing", {})[0] == 404
    for method, path, status in (("POST", "/api/nothing", 404), ("GET", "/api/nothing", 404),
                                 ("PUT", "/api/chat", 405), ("POST", "/api/", 404)):
        got, _, text = s.ask(method, path, {})
        assert got == status, (path, got)
        error(text)
    for path in ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show"):
        status, _, text = s.ask("POST", path, {"model": "llama9", "prompt": "x", "input": "x", "messages": HI})
        assert status == 404, (path, status)
        error(text, "llama9")
        for body in ("", "{", "[]", "null", '{"model":1}', "{}", b"\xff", '{"a":' + "[" * 99 + "]" * 99 + "}"):
            status, _, text = s.ask("POST", path, body)
            assert status == 400, (path, body, status)
            error(text)
    # Nothing of it on OpenAI's paths.
    assert "message" in json.loads(s.ask("POST", "/v1/nothing", {})[2])["error"]
    assert "message" in json.loads(s.ask("GET", "/v1/models", key=False)[2])["error"]


def the_first_questions_of_clients(s):
    for method, path in (("HEAD", "/"), ("GET", "/"), ("HEAD", "/api/version"), ("HEAD", "/api/tags")):
        assert s.ask(method, path)[0] == 200, (method, path)
    version = json.loads(s.ask("GET", "/api/version")[2])["version"]
    assert [int(x) for x in version.split(".")] >= [0, 6, 4] and re.fullmatch(r"\d+\.\d+\.\d+", version)


def check_details(d):
    assert d["format"] == "gguf" and d["family"] and d["families"] == [d["family"]] and d["parent_model"] == ""
    assert re.fullmatch(r"\d+\.\d[KMBT]", d["parameter_size"]) and re.fullmatch(r"[A-Z0-9_]+", d["quantization_level"])


def models_are_listed(s):
    tags = json.loads(s.ask("GET", "/api/tags")[2])["models"]
    ps = json.loads(s.ask("GET", "/api/ps")[2])["models"]
    names = [LLAMA + ":latest", QWEN + ":latest", BERT + ":latest"]
    assert [m["name"] for m in tags] == [m["model"] for m in tags] == [m["name"] for m in ps] == names
    for m, p, path in zip(tags, ps, MODELS):
        assert m["size"] == os.path.getsize(path)
        assert re.fullmatch(r"[0-9a-f]{64}", m["digest"]) and m["digest"] == p["digest"]
        assert re.fullmatch(TIME, m["modified_at"])
        check_details(m["details"])
        assert p["details"] == m["details"] and p["size"] > 0 and p["size_vram"] == 0 and p["context_length"] > 0
    assert len({m["digest"] for m in tags}) == 3
    assert [m["details"]["family"] for m in tags] == ["llama", "qwen2", "bert"]
    assert tags[0]["details"]["quantization_level"] == "Q4_0" and tags[2]["details"]["quantization_level"] == "F32"
    assert [m["capabilities"] for m in tags] == [["completion", "tools"], ["completion", "tools"], ["embedding"]]


def a_model_is_shown(s):
    for fields in ({"model": QWEN}, {"name": QWEN}, {"model": QWEN + ":latest", "verbose": True}):
        a = s.good("/api/show", **fields)
        check_details(a["details"])
        info = a["model_info"]
        assert info["general.architecture"] == "qwen2" and info["general.parameter_count"] > 0
        assert info["qwen2.context_length"] > 0 and info["qwen2.embedding_length"] > 0
        assert a["capabilities"] == ["completion", "tools"] and "FROM " + QWEN in a["modelfile"]
        assert isinstance(a["template"], str) and re.fullmatch(TIME, a["modified_at"])


def the_list_is_the_operators(s):
    for method, path in (("POST", "/api/pull"), ("POST", "/api/push"), ("POST", "/api/create"), ("POST", "/api/copy"),
                         ("DELETE", "/api/delete")):
        status, _, text = s.ask(method, path, {"model": "llama9", "name": "x", "source": LLAMA, "destination": "x"})
        assert status == 403, (path, status)
        error(text, "operator")
    assert whole(s, "/api/pull", model=LLAMA) == {"status": "success"}
    assert s.ask("DELETE", "/api/delete", {"model": LLAMA})[0] == 403
    assert s.good("/api/show", model=LLAMA)


def check_end(a, keys):
    assert set(a) == keys | ENDS, set(a) ^ (keys | ENDS)
    assert a["done"] is True and a["done_reason"] in ("stop", "length")
    assert all(isinstance(a[k], int) and a[k] >= 0 for k in ENDS - {"done", "done_reason"})
    parts = a["load_duration"] + a["prompt_eval_duration"] + a["eval_duration"]
    assert parts == a["total_duration"] > 0 and a["prompt_eval_count"] > 0


def a_chat_and_its_stream(s):
    for model in (LLAMA, QWEN + ":latest"):
        a = whole(s, "/api/chat", model=model, messages=HI, **GREEDY)
        check_end(a, {"model", "created_at", "message"})
        assert a["model"] == model and re.fullmatch(TIME, a["created_at"]) and a["eval_count"] <= 12
        assert a["message"]["role"] == "assistant" and a["message"]["content"]
        parts = lines(s, "/api/chat", model=model, messages=HI, **GREEDY)
        for p in parts[:-1]:
            assert set(p) == {"model", "created_at", "message", "done"} and p["done"] is False
            assert p["message"]["role"] == "assistant" and p["message"]["content"]
        check_end(parts[-1], {"model", "created_at", "message"})
        assert len(parts) > 2 and parts[-1]["message"]["content"] == ""
        assert "".join(p["message"]["content"] for p in parts) == a["message"]["content"]
        for k in ("done_reason", "eval_count", "prompt_eval_count"):
            assert parts[-1][k] == a[k]
        openai = s.good("/v1/chat/completions", model=model, messages=HI, temperature=0, max_tokens=12)
        assert openai["choices"][0]["message"]["content"] == a["message"]["content"]
        assert openai["usage"]["completion_tokens"] == a["eval_count"]
        assert openai["usage"]["prompt_tokens"] == a["prompt_eval_count"]


def a_prompt_and_its_stream(s):
    fields = dict(model=QWEN, prompt="Hi", system="Be brief.", **GREEDY)
    a = whole(s, "/api/generate", **fields)
    check_end(a, {"model", "created_at", "response", "context"})
    parts = lines(s, "/api/generate", **fields)
    assert all(set(p) == {"model", "created_at", "response", "done"} for p in parts[:-1])
    assert "".join(p["response"] for p in parts) == a["response"] and parts[-1]["context"] == a["context"]
    chat = whole(s, "/api/chat", model=QWEN, **GREEDY,
                 messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    assert chat["message"]["content"] == a["response"] and chat["prompt_eval_count"] == a["prompt_eval_count"]
    assert len(a["context"]) - a["prompt_eval_count"] - a["eval_count"] in (0, 1)


def a_context_goes_on(s):
    """The conversation so far, and the next prompt, without a second BOS, is what the model reads."""
    for model in (LLAMA, QWEN):
        a = whole(s, "/api/generate", model=model, prompt="Hi", **GREEDY)
        plain = whole(s, "/api/generate", model=model, prompt="And?", **GREEDY)
        b = whole(s, "/api/generate", model=model, prompt="And?", context=a["context"], **GREEDY)
        bos = s.good("/tokenize", model=model, prompt="", add_special_tokens=True)["count"]
        assert b["context"][:len(a["context"])] == a["context"]
        assert b["prompt_eval_count"] == len(a["context"]) + plain["prompt_eval_count"] - bos
        same = s.good("/v1/completions", model=model, prompt=b["context"][:b["prompt_eval_count"]], temperature=0, max_tokens=12)
        assert same["choices"][0]["text"].strip() == b["response"].strip()
    for bad in ([-1], [10**9], ["a"], 5, "x", {"a": 1}, [1.5]):
        assert s.post("/api/generate", model=LLAMA, prompt="x", context=bad, **GREEDY)[0] == 400, bad


def a_raw_prompt_is_the_whole_prompt(s):
    a = whole(s, "/api/generate", model=LLAMA, prompt="Once upon", raw=True, **GREEDY)
    check_end(a, {"model", "created_at", "response"})
    same = s.good("/v1/completions", model=LLAMA, prompt="Once upon", temperature=0, max_tokens=12)
    assert a["response"] == same["choices"][0]["text"] and a["prompt_eval_count"] == same["usage"]["prompt_tokens"]
    for more in ({"system": "x"}, {"context": [1]}):
        assert s.post("/api/generate", model=LLAMA, prompt="x", raw=True, **more)[0] == 400


def options_count(s):
    def say(**options):
        a = whole(s, "/api/generate", model=LLAMA, prompt="Once", raw=True, options=options)
        return a["response"], a["done_reason"], a["eval_count"]

    text, reason, n = say(temperature=0, num_predict=40)
    assert reason == "length" and n == 40
    word = text[10:13]
    for stop in (word, [word]):
        assert say(temperature=0, num_predict=40, stop=stop)[:2] == (text[:text.index(word)], "stop")
    assert say(temperature=5e-1, seed=3, num_predict=20) == say(temperature=0.5, seed=3, num_predict=20)
    assert len({say(temperature=2, seed=i, num_predict=20) for i in range(4)}) > 1
    assert len({say(temperature=2, seed=-1, num_predict=20) for i in range(4)}) > 1
    assert say(temperature=2, top_k=1, num_predict=20)[0] == text[:len(say(temperature=2, top_k=1, num_predict=20)[0])]
    assert say(temperature=0, num_predict=40, repeat_penalty=5, repeat_last_n=-1)[0] != text
    assert say(temperature=0, num_predict=40, top_k=-1, num_ctx=4096, num_gpu=1, num_thread=8, n=5, stream=True)[0] == text
    # No limit: to the end of the context.
    a = whole(s, "/api/generate", model=LLAMA, prompt="Once", raw=True, keep_alive="5m",
              options={"temperature": 0, "num_predict": -1})
    assert a["eval_count"] > 40


def nothing_to_say_is_a_load(s):
    for stream in ({}, {"stream": False}, {"stream": True}):
        for path, fields in (("/api/chat", {}), ("/api/chat", {"messages": []}), ("/api/generate", {}),
                             ("/api/generate", {"prompt": "", "keep_alive": 0}), ("/api/generate", {"model": BERT})):
            a = s.good(path, **{"model": LLAMA, **fields, **stream})
            assert a["done"] is True and a["done_reason"] == ("unload" if fields.get("keep_alive") == 0 else "load")
            assert (a["message"]["content"] if path == "/api/chat" else a["response"]) == ""


def logprobs(s):
    a = whole(s, "/api/chat", model=LLAMA, messages=HI, logprobs=True, top_logprobs=3, **GREEDY)
    assert len(a["logprobs"]) == a["eval_count"] and all(len(r["top_logprobs"]) == 3 for r in a["logprobs"])
    assert all(r["logprob"] <= 0 and isinstance(r["token"], str) for r in a["logprobs"])
    parts = lines(s, "/api/chat", model=LLAMA, messages=HI, logprobs=True, top_logprobs=3, **GREEDY)
    assert [r for p in parts for r in p.get("logprobs", [])] == a["logprobs"]


def what_is_not_there_is_refused(s):
    for path, base in (("/api/chat", dict(model=LLAMA, messages=HI)), ("/api/generate", dict(model=LLAMA, prompt="Hi"))):
        for more in ({"template": "{{ .Prompt }}"}, {"images": ["aGk="]}, {"suffix": "}"}):
            status, answer = s.post(path, **base, **more)
            assert status == 400 and list(answer) == ["error"], (more, answer)
        empty = {"template": "", "system": "", "suffix": "", "images": [], "format": "", "tools": [], "context": [], "think": None,
                 "options": None}
        whole(s, path, **base, **{**empty, **GREEDY})
        whole(s, path, **base, **{**empty, "think": False, "keep_alive": -1, **GREEDY})
        assert s.post(path, **{**base, "model": BERT})[0] == 400
    for messages in ([{"role": "user", "content": "x", "images": ["aGk="]}], [{"role": "king", "content": "x"}], ["x"], 5, "x"):
        assert s.post("/api/chat", model=LLAMA, messages=messages)[0] == 400, messages
    status, answer = s.post("/api/generate", model=LLAMA, prompt="word " * 20000)
    assert status == 400 and "context" in answer["error"]


def vectors(s):
    a = s.good("/api/embed", model=BERT, input=["hello", "a b c"])
    assert set(a) == {"model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"} and a["model"] == BERT
    openai = s.good("/v1/embeddings", model=BERT, input=["hello", "a b c"])
    assert a["embeddings"] == [d["embedding"] for d in openai["data"]]
    assert a["prompt_eval_count"] == openai["usage"]["prompt_tokens"]
    one = s.good("/api/embed", model=BERT + ":latest", input="hello", keep_alive="1h", options={"num_ctx": 9}, truncate=True)
    assert one["embeddings"] == a["embeddings"][:1]
    assert s.good("/api/embeddings", model=BERT, prompt="hello") == {"embedding": a["embeddings"][0]}
    assert s.good("/api/embeddings", model=BERT, prompt="") == {"embedding": []}
    for nothing in ("", [], None):
        assert s.good("/api/embed", model=BERT, input=nothing)["embeddings"] == []
    short, = s.good("/api/embed", model=BERT, input="hello", dimensions=4)["embeddings"]
    length = math.sqrt(sum(x * x for x in a["embeddings"][0][:4]))
    assert len(short) == 4 and all(abs(x - y / length) < 1e-6 for x, y in zip(short, a["embeddings"][0]))
    assert s.good("/api/embed", model=BERT, input="hello", dimensions=10**6)["embeddings"] == one["embeddings"]
    long = "hello " * 5000
    assert s.good("/api/embed", model=BERT, input=long)["prompt_eval_count"] < 5000
    assert s.post("/api/embed", model=BERT, input=long, truncate=False)[0] == 400
    for bad in (5, {"a": 1}, [1.5], [-1], [""], [[]], [None], ["x"] * 2049, True):
        status, answer = s.post("/api/embed", model=BERT, input=bad)
        assert status == 400 and list(answer) == ["error"], (bad, answer)
    assert s.post("/api/embeddings", model=BERT, prompt=["a"])[0] == 400


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}, "ok": {"type": "boolean"}},
          "required": ["n", "ok"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA}}


def answers_of_a_form(s):
    options = {"temperature": 1, "seed": 7, "num_predict": 300}
    for path, base in (("/api/chat", dict(messages=HI)), ("/api/generate", dict(prompt="Hi"))):
        def say(**more):
            a = whole(s, path, model=QWEN, options=options, **base, **more)
            parts = lines(s, path, model=QWEN, options=options, **base, **more)
            text = a["response"] if path == "/api/generate" else a["message"]["content"]
            said = "".join(p["response"] if path == "/api/generate" else p["message"]["content"] for p in parts)
            assert said == text and a["done_reason"] == parts[-1]["done_reason"]
            return text
        found = json.loads(say(format=SCHEMA))
        assert set(found) == {"n", "ok"} and 0 <= found["n"] <= 99 and isinstance(found["ok"], bool)
        assert say(format="json").lstrip().startswith("{")
        for bad in ("yaml", 5, [1], {"type": "nothing"}, {"type": "string", "pattern": "("}):
            status, answer = s.post(path, model=QWEN, format=bad, **base, **GREEDY)
            assert status == 400 and list(answer) == ["error"], (bad, status)


def calls_of_tools(s):
    """The tiny model calls nothing by itself; told to write a call by its form, it does."""
    call = {"type": "object", "properties": {"name": {"const": "add"}, "arguments": SCHEMA}, "required": ["name", "arguments"],
            "additionalProperties": False}
    fields = dict(model=QWEN, messages=HI, tools=[TOOL], format=call, options={"temperature": 1, "seed": 3, "num_predict": 400})
    a = whole(s, "/api/chat", **fields)
    made, = a["message"]["tool_calls"]
    assert made["id"] and made["function"]["name"] == "add" and set(made["function"]["arguments"]) == {"n", "ok"}
    assert a["message"]["content"] == "" and a["done_reason"] == "stop"
    parts = lines(s, "/api/chat", **fields)
    assert [c["function"] for p in parts for c in p["message"].get("tool_calls", [])] == [made["function"]]
    assert "tool_calls" not in parts[-1]["message"] and "".join(p["message"]["content"] for p in parts) == ""
    more = HI + [a["message"], {"role": "tool", "tool_name": "add", "content": "7"}]
    b = whole(s, "/api/chat", model=QWEN, messages=more, tools=[TOOL], **GREEDY)
    assert b["prompt_eval_count"] > a["prompt_eval_count"]
    for bad in (5, "x", [5], [{}], [{"type": "function", "function": {}}]):
        assert s.post("/api/chat", model=QWEN, messages=HI, tools=bad, **GREEDY)[0] == 400, bad


def who_leaves_frees_the_slot(s):
    running = "vllm:num_requests_running"
    body = json.dumps(dict(model=LLAMA, prompt="Go on", raw=True, options={"num_predict": -1, "ignore_eos": True}))
    socks = []
    for _ in range(6):
        c = socket.create_connection(("127.0.0.1", s.port))
        c.sendall(f"POST /api/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {s.key}\r\n"
                  f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
        assert c.recv(100).startswith(b"HTTP/1.1 200")
        socks.append(c)
    for c in socks:
        c.close()
    s.wait(lambda: s.metric(running) == 0 and s.metric("vllm:num_requests_waiting") == 0)


def the_official_client(s):
    c = ollama.Client(host=f"http://127.0.0.1:{s.port}", headers={"Authorization": "Bearer " + s.key})
    assert [m.model for m in c.list().models] == [m + ":latest" for m in (LLAMA, QWEN, BERT)]
    assert c.list().models[0].size == os.path.getsize(MODELS[0]) and c.list().models[0].modified_at.year >= 2020
    assert c.ps().models[0].expires_at.year == 2200
    shown = c.show(QWEN)
    assert shown.modelinfo["general.architecture"] == "qwen2" and shown.capabilities == ["completion", "tools"]
    a = c.chat(model=LLAMA, messages=HI, options={"temperature": 0, "num_predict": 10})
    assert a.message.role == "assistant" and a.done and a.eval_count <= 10
    pieces = list(c.chat(model=LLAMA, messages=HI, options=ollama.Options(temperature=0, num_predict=10), stream=True))
    assert "".join(p.message.content for p in pieces) == a.message.content and pieces[-1].done_reason == a.done_reason
    g = c.generate(model=QWEN, prompt="Hi", options={"temperature": 0, "num_predict": 10}, keep_alive="5m")
    pieces = list(c.generate(model=QWEN, prompt="Hi", options={"temperature": 0, "num_predict": 10}, stream=True))
    assert "".join(p.response for p in pieces) == g.response and list(pieces[-1].context) == list(g.context)
    assert c.generate(model=QWEN).done
    e = c.embed(model=BERT, input=["hello", "a b c"])
    assert len(e.embeddings) == 2 and list(c.embeddings(model=BERT, prompt="hello").embedding) == list(e.embeddings[0])
    def add(n: int, ok: bool) -> int:
        """Adds.

        Args:
            n: a number
            ok: whether
        """
        return n + ok
    call = {"type": "object", "properties": {"name": {"const": "add"}, "arguments": SCHEMA}, "required": ["name", "arguments"],
            "additionalProperties": False}
    a = c.chat(model=QWEN, messages=HI, tools=[add], format=call, options={"temperature": 1, "seed": 3, "num_predict": 400})
    assert a.message.tool_calls[0].function.name == "add" and add(**a.message.tool_calls[0].function.arguments) >= 0
    a = c.chat(model=QWEN, messages=[*HI, a.message, {"role": "tool", "tool_name": "add", "content": "7"}], tools=[add],
               options={"num_predict": 3})
    assert a.done
    assert c.pull(LLAMA).status == "success"
    for call, status in ((lambda: c.chat(model="llama9", messages=HI), 404), (lambda: c.delete(LLAMA), 403),
                         (lambda: c.generate(model=LLAMA, prompt="x", options={"top_p": 5}), 400),
                         (lambda: list(c.chat(model="llama9", messages=HI, stream=True)), 404)):
        try:
            call()
        except ollama.ResponseError as x:
            assert x.status_code == status and isinstance(x.error, str) and "{" not in x.error, (x.status_code, x.error)
        else:
            raise AssertionError(f"not refused: {status}")


def without_keys():
    with server("--no-keys", models=MODELS[:1]) as s:
        assert json.loads(s.ask("GET", "/api/tags", key=False)[2])["models"]
        status, _, text = s.ask("POST", "/api/generate", dict(model=LLAMA, prompt="Hi", stream=False, **GREEDY), key=False)
        assert status == 200 and json.loads(text)["done"]


SHARED = [errors_have_ollamas_shape, the_first_questions_of_clients, models_are_listed, a_model_is_shown,
          the_list_is_the_operators, a_chat_and_its_stream, a_prompt_and_its_stream, a_context_goes_on,
          a_raw_prompt_is_the_whole_prompt, options_count, nothing_to_say_is_a_load, logprobs, what_is_not_there_is_refused, answers_of_a_form, calls_of_tools,
          vectors, who_leaves_frees_the_slot, the_official_client]

sys.exit(run_tests(SHARED, [without_keys]))
