#!/usr/bin/env python3
"""End to end: what `solvent serve` says about itself (/openapi.json) is true. The document names every route of the
program; real answers and the events of streams fit it; schemathesis makes requests from it, good and bad, and judges
the answers: none of 5xx, none that the document does not know, bad requests refused, good ones taken.

Usage: schema.py SOLVENT [--cases N] [--seed N]. Prints a line a test, then "N passed, N failed". --cases: how many
requests schemathesis makes at least (10,000); --seed: the first of its seeds (1).
"""
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))
import e2e_venv

e2e_venv.enter()

import jsonschema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from solvent_server import BERT, DATA, LLAMA, QWEN, run_tests, server

HI = [{"role": "user", "content": "Hi"}]
TOO_LARGE = "[" + " " * (5 << 20) + "]"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["n"], "additionalProperties": False}
ROOT = os.path.dirname(os.path.dirname(DATA))
# Within the context, and no U+0000.
SMALL = """
import json, schemathesis

@schemathesis.hook
def filter_case(context, case):
    text = json.dumps(case.body, default=str)
    body = case.body if isinstance(case.body, dict) else {}
    said = [body.get(name) for name in ("messages", "tools", "instructions", "system", "input")]
    return "\\\\u0000" not in text and len(json.dumps(said, default=str)) < 500
"""
# What refuses a request, the tool's own list and 413.
CONFIG = "[checks.negative_data_rejection]\nexpected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, '5xx']\n"
ALWAYS = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
          "response_schema_conformance", "unsupported_method", "allow_header_conformance", "ignored_auth"]


def flag(name, default):
    return int(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default


CASES = flag("--cases", 10000)


def document(s):
    status, headers, text = s.ask("GET", "/openapi.json", key=False)
    assert status == 200 and headers["Content-Type"] == "application/json"
    return json.loads(text)


def fits(doc, value, schema):
    """Whether a value is what the document says: schema is a name of its schemas, or one of its parts."""
    registry = Registry().with_resource("urn:doc", Resource(contents=doc, specification=DRAFT202012))
    if isinstance(schema, str):
        schema = {"$ref": "#/components/schemas/" + schema}
    text = json.dumps(schema).replace('"$ref": "#', '"$ref": "urn:doc#')
    jsonschema.Draft202012Validator(json.loads(text), registry=registry).validate(value)


def it_is_the_one_of_the_source(s):
    with open(ROOT + "/src/api/openapi.json", encoding="utf-8") as f:
        assert document(s) == json.load(f)
    assert s.ask("HEAD", "/openapi.json", key=False)[2] == b""


def it_is_openapi_3_1(s):
    """Every schema is one, every reference leads somewhere, every operation has a name of its own."""
    doc = document(s)
    assert doc["openapi"] == "3.1.0"
    for schema in doc["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for ref in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(doc)):
        at = doc
        for part in ref.split("/"):
            at = at[part]
    names = [op["operationId"] for path in doc["paths"].values() for op in path.values()]
    assert len(set(names)) == len(names)
    used = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(doc)))
    assert used == set(doc["components"]["schemas"]), used ^ set(doc["components"]["schemas"])


def every_route_stands_in_it(s):
    doc = document(s)
    with open(ROOT + "/src/api/api.c", encoding="utf-8") as f:
        table = re.findall(r'^ +\{"([A-Z]+)", "(/[^"]*)", \w+, (true|false)', f.read(), re.M)
    assert len(table) > 10
    served = {(m.lower(), p, o == "true") for m, p, o in table}
    told = {(m, re.sub(r"\{\w+\}.*", "", p), op.get("security") == []) for p, ops in doc["paths"].items() for m, op in ops.items()}
    assert served == told, served ^ told


def answers_fit(s):
    doc = document(s)
    fits(doc, json.loads(s.ask("GET", "/health")[2]), "Health")
    fits(doc, json.loads(s.ask("GET", "/v1/models")[2]), "Models")
    fits(doc, json.loads(s.ask("GET", "/v1/models/" + BERT)[2]), "Model")
    for more in ({}, dict(n=3, seed=1), dict(logprobs=True), dict(logprobs=True, top_logprobs=20)):
        fits(doc, s.good("/v1/chat/completions", model=LLAMA, messages=HI, max_tokens=9, **more), "Chat")
        for event in s.events("/v1/chat/completions", model=LLAMA, messages=HI, max_tokens=9, **more):
            fits(doc, event, "ChatChunk")
    tools = [{"type": "function", "function": {"name": "go", "parameters": {"type": "object", "additionalProperties": False}}}]
    fields = dict(model=LLAMA, messages=HI, max_tokens=99, tools=tools, tool_choice="required")
    a = s.good("/v1/chat/completions", **fields)
    fits(doc, a, "Chat")
    assert a["choices"][0]["finish_reason"] == "tool_calls"
    events = s.events("/v1/chat/completions", **fields)
    assert any("tool_calls" in e["choices"][0]["delta"] for e in events)
    for event in events:
        fits(doc, event, "ChatChunk")
    for more in ({}, dict(n=3, seed=1), dict(logprobs=0), dict(logprobs=20, echo=True)):
        fits(doc, s.good("/v1/completions", model=LLAMA, prompt=["One", [5, 6]], max_tokens=9, **more), "Completion")
        for event in s.events("/v1/completions", model=LLAMA, prompt="One", max_tokens=9,
                              stream_options={"include_usage": True}, **more):
            fits(doc, event, "CompletionChunk")
    for form in (None, "float", "base64"):
        fits(doc, s.good("/v1/embeddings", model=BERT, input=["a", [1, 2]], encoding_format=form), "Embeddings")
    ids = s.good("/tokenize", model=QWEN, prompt="One two")
    fits(doc, ids, "Tokens")
    fits(doc, s.good("/detokenize", model=QWEN, tokens=ids["tokens"]), "Text")


def answers_of_other_apis_fit(s):
    doc = document(s)

    def events(path, **fields):
        status, _, text = s.ask("POST", path, {**fields, "stream": True})
        assert status == 200, text
        return [json.loads(e.split("\ndata: ", 1)[1]) for e in text.decode().split("\n\n")[:-1]]

    a = s.good("/v1/responses", model=LLAMA, input="Hi", max_output_tokens=5)
    fits(doc, a, "Response")
    fits(doc, json.loads(s.ask("GET", "/v1/responses/" + a["id"])[2]), "Response")
    fits(doc, json.loads(s.ask("DELETE", "/v1/responses/" + a["id"])[2]), "ResponseDeleted")
    for event in events("/v1/responses", model=LLAMA, input="Hi", max_output_tokens=5):
        fits(doc, event, "ResponseEvent")
    go = {"name": "go", "description": "x"}
    for fields in (dict(input="Hi", max_output_tokens=200, tools=[{**go, "type": "function", "parameters": SCHEMA}],
                        tool_choice={"type": "function", "name": "go"}),
                   dict(input="Hi", max_output_tokens=200, text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}})):
        a = s.good("/v1/responses", model=LLAMA, **fields)
        fits(doc, a, "Response")
        assert ("tools" in fields) == (a["output"][0]["type"] == "function_call"), a
        for event in events("/v1/responses", model=LLAMA, **fields):
            fits(doc, event, "ResponseEvent")
    fields = dict(model=LLAMA, messages=HI, max_tokens=5)
    fits(doc, s.good("/v1/messages/count_tokens", **fields), "TokenCount")
    for more in ({}, dict(max_tokens=200, tools=[{**go, "input_schema": SCHEMA}], tool_choice={"type": "any"})):
        a = s.good("/v1/messages", **{**fields, **more})
        fits(doc, a, "AnthropicMessage")
        assert bool(more) == (a["stop_reason"] == "tool_use"), a
        for event in events("/v1/messages", **{**fields, **more}):
            fits(doc, event, "AnthropicEvent")
    for path, schema, ask in (("/api/chat", "OllamaChat", dict(messages=HI)), ("/api/generate", "OllamaGenerated", dict(prompt="Hi"))):
        for more in (ask, {}, dict(ask, logprobs=True, top_logprobs=2), dict(ask, format=SCHEMA)):
            fits(doc, s.good(path, model=LLAMA, stream=False, options={"num_predict": 5}, **more), schema)
        for line in s.ask("POST", path, dict(model=LLAMA, options={"num_predict": 5}, **ask))[2].splitlines():
            fits(doc, json.loads(line), schema)
    call = {"type": "object", "properties": {"name": {"const": "go"}, "arguments": SCHEMA}, "required": ["name", "arguments"],
            "additionalProperties": False}
    a = s.good("/api/chat", model=QWEN, messages=HI, stream=False, tools=[{"type": "function", "function": go}], format=call,
               options={"num_predict": 300, "seed": 3, "temperature": 1})
    fits(doc, a, "OllamaChat")
    assert a["message"]["tool_calls"], a
    fits(doc, s.good("/api/embed", model=BERT, input=["a", "b"]), "OllamaVectors")
    fits(doc, s.good("/api/embeddings", model=BERT, prompt="a"), "OllamaVector")
    fits(doc, s.good("/api/show", model=BERT), "OllamaModel")
    for path, schema in (("tags", "OllamaModels"), ("ps", "OllamaModels"), ("version", "OllamaVersion")):
        fits(doc, json.loads(s.ask("GET", "/api/" + path)[2]), schema)
    for path, schema in (("/v1/messages", "AnthropicError"), ("/api/chat", "OllamaError")):
        for body, key in (("{", True), ({"model": "none"}, True), ({}, False)):
            fits(doc, json.loads(s.ask("POST", path, body, key=key)[2]), schema)


def refusals_fit(s):
    doc = document(s)
    for status, method, path, body, key in (
            (401, "GET", "/v1/models", None, False), (401, "POST", "/v1/embeddings", "{", "sk-0"),
            (400, "POST", "/v1/chat/completions", "{", True), (404, "POST", "/v1/chat/completions", {"model": "x"}, True),
            (404, "GET", "/v1/models/x", None, True), (404, "GET", "/nothing", None, True), (404, "GET", "/web/x", None, False),
            (405, "PUT", "/v1/models", "{}", True), (405, "GET", "/tokenize", None, True),
            (413, "POST", "/tokenize", TOO_LARGE, True), (413, "POST", "/v1/messages", TOO_LARGE, True),
            (413, "POST", "/api/chat", TOO_LARGE, True)):
        try:
            got, headers, text = s.ask(method, path, body, key=key)
        except (BrokenPipeError, ConnectionResetError):
            assert status == 413  # cut while it still sent
            continue
        assert got == status, (status, got, path)
        fits(doc, json.loads(text), {"/v1/messages": "AnthropicError", "/api/chat": "OllamaError"}.get(path, "Error"))
        assert status != 405 or headers["Allow"] == ("GET, HEAD" if "models" in path else "POST")


def a_check_can_fail(s):
    doc = document(s)
    for value in ({"error": {"message": "x", "type": "server_error", "param": None}}, {}):
        try:
            fits(doc, value, "Error")
        except jsonschema.ValidationError:
            continue
        raise AssertionError("that fits, too")


# ---- schemathesis ----


def run_schemathesis(s, doc, checks, seed, *flags, hooks=""):
    """Requests made from a document, by the tool's own program. Says how many there were, and whether all was well."""
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/openapi.json", "w", encoding="utf-8") as f:
            json.dump(doc, f)
        with open(folder + "/hooks.py", "w", encoding="utf-8") as f:
            f.write(hooks)
        with open(folder + "/schemathesis.toml", "w", encoding="utf-8") as f:
            f.write(CONFIG)
        command = [os.path.dirname(sys.executable) + "/schemathesis", "run", folder + "/openapi.json", "--url",
                   f"http://127.0.0.1:{s.port}", "-H", "Authorization: Bearer " + s.key, "--no-color", "-c",
                   ",".join(checks), "--seed", str(seed), "--generation-database", "none",
                   "--warnings", "off", "--suppress-health-check", "all", "--request-timeout", "120", "--continue-on-failure", *flags]
        r = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           env={**os.environ, "HOME": folder, "PYTHONPATH": folder, "SCHEMATHESIS_HOOKS": "hooks"})
    made = re.search(r"^ +(\d+) generated", r.stdout, re.M)
    if r.returncode or not made:
        print("\n".join(line[:2000] for line in r.stdout.splitlines())[-30000:])
    assert made and s.p.poll() is None, "the server is gone, or the tool"
    s.wait(lambda: s.metric("vllm:num_requests_running") == 0)
    return int(made[1]), r.returncode == 0


def many(what, cases, make, checks, *flags, ctx, hooks=""):
    """First the tool's systematic cases and some random ones, then random ones of further seeds: each seed the same
    every time."""
    seed, done, bad, start = flag("--seed", 1), 0, 0, time.monotonic()
    with server("--ctx", str(ctx), "-t", "1") as s:
        doc = make(document(s))
        while done < cases:
            n, good = run_schemathesis(s, doc, checks, seed, "-n", "100", *flags, *(["--phases", "fuzzing"] if done else []), hooks=hooks)
            done += n
            bad += not good
            print(f"       {what}: {done} cases, seeds to {seed}, {time.monotonic() - start:.0f} s, {bad} bad runs", flush=True)
            seed += 1
    assert not bad, "see above"


def named_models(doc):
    """Of models that exist, mostly, so that the other fields matter, too."""
    doc["components"]["schemas"]["ModelName"]["enum"] = [LLAMA, QWEN, BERT, "none"]
    doc["components"]["schemas"]["MaxTokens"]["maximum"] = 100
    return doc


def what_clients_know(doc):
    """And the document cannot: the models, their tokens and contexts."""
    schemas = doc["components"]["schemas"]
    schemas["ModelName"]["enum"] = [LLAMA, QWEN]
    schemas["MaxTokens"].update(type="integer", maximum=20)
    schemas["MessagesRequest"]["properties"]["max_tokens"]["maximum"] = 20
    schemas["ResponseRequest"]["required"].append("max_output_tokens")
    schemas["OllamaAsking"]["required"].append("options")
    schemas["OllamaAsking"]["properties"]["options"].update(type="object", required=["num_predict"])
    schemas["OllamaAsking"]["properties"]["options"]["properties"]["num_predict"] = {"type": "integer", "minimum": 1, "maximum": 20}
    schemas["N"]["maximum"] = 4
    for ids in (schemas["TokenIds"], schemas["DetokenizeRequest"]["properties"]["tokens"]):
        ids["items"] = {"type": "integer", "minimum": 0, "maximum": 96}
    schemas["StopText"]["maxLength"] = 256
    schemas["LogitBias"]["propertyNames"] = {"pattern": "^[0-9]{1,2}$"}
    schemas["CompletionRequest"]["properties"]["best_of"] = {"const": 1}
    prompt = schemas["CompletionRequest"]["properties"]["prompt"]["anyOf"]
    prompt[0]["minLength"] = prompt[2]["items"]["anyOf"][0]["minLength"] = 1
    prompt[2]["maxItems"] = 8
    for ask, field in (("ChatRequest", "messages"), ("OllamaChatRequest", "messages")):
        schemas[ask]["properties"][field]["maxItems"] = 4
    schemas["ChatRequest"]["properties"]["logprobs"] = {"const": True}
    schemas["ChatRequest"]["required"] = ["model", "messages", "logprobs", "max_tokens"]
    for ask, free in (("ChatRequest", {"enum": ["none", "auto", None]}), ("ResponseRequest", {"enum": ["none", "auto", None]}),
                      ("Conversation", {"enum": [None, {"type": "none"}, {"type": "auto"}]})):
        schemas[ask]["properties"]["tool_choice"] = free
    for ask in ("ChatRequest", "ResponseRequest", "OllamaChatRequest", "Conversation"):
        schemas[ask]["properties"]["tools"]["maxItems"] = 2
    for name in ("response_format", "grammar", "regex"):
        schemas["Completing"]["properties"][name] = {"type": "null"}
    for form in schemas["ResponseRequest"]["properties"]["text"]["properties"]["format"]["anyOf"][2:]:
        form["properties"]["schema"] = {"enum": [{}, SCHEMA]}
    schemas["OllamaAsking"]["properties"]["format"] = {"enum": ["json", "", None, SCHEMA]}
    schemas["OllamaGenerateRequest"]["properties"]["context"] = {"enum": [None, [], [5, 6]]}
    schemas["OllamaGenerateRequest"]["properties"]["raw"] = {"enum": [False, None]}
    schemas["ResponseRequest"]["properties"]["input"] = {"type": "string", "minLength": 1, "maxLength": 60}
    schemas["ResponseRequest"]["properties"]["previous_response_id"] = {"type": "null"}
    schemas["Conversation"]["properties"]["messages"].update(items={"const": HI[0]}, maxItems=4)
    schemas["EmbeddingRequest"]["properties"]["dimensions"] = {"type": "null"}
    return doc


def hostile_requests():
    many("hostile", CASES * 7 // 10, named_models, ALWAYS + ["negative_data_rejection"], "--mode", "all", ctx=256)


def good_requests():
    many("good", CASES * 3 // 10, what_clients_know, ALWAYS + ["positive_data_acceptance"], "--mode", "positive", ctx=2048, hooks=SMALL)


def hostile_and_good_requests():
    """Both at once, on servers of their own."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(hostile_requests), pool.submit(good_requests)]:
            job.result()


WITH_SERVER = [it_is_the_one_of_the_source, it_is_openapi_3_1, every_route_stands_in_it, answers_fit, answers_of_other_apis_fit,
               refusals_fit, a_check_can_fail]

if __name__ == "__main__":
    sys.exit(run_tests(WITH_SERVER, [hostile_and_good_requests]))
