#!/usr/bin/env python3
"""End to end: the other forms of `solvent serve`: OpenAI's Responses API with its kept answers, Anthropic's Messages
API. By plain HTTP, and by the official `openai` and `anthropic` packages.

Usage: api_forms.py SOLVENT. Prints a line a test, then "N passed, N failed".
"""
import concurrent.futures
import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
import e2e_venv  # noqa: E402

e2e_venv.enter()

import anthropic  # noqa: E402
import openai  # noqa: E402
from gguf_template import put_template  # noqa: E402
from solvent_server import BERT, LLAMA, MODELS, QWEN, run_tests, server  # noqa: E402

HI = [{"role": "user", "content": "Hi"}]
GREEDY = dict(model=QWEN, temperature=0)
TOOL = {"name": "weather", "description": "Of a town.", "parameters": {"type": "object", "properties": {"town": {"type": "string"}}}}


def text_of(answer):
    item, = answer["output"]
    part, = item["content"]
    return part["text"]


def respond(s, **fields):
    return s.good("/v1/responses", **{**GREEDY, "max_output_tokens": 12, **fields})


def say(s, **fields):
    return s.good("/v1/messages", **{**GREEDY, "max_tokens": 12, "messages": HI, **fields})


def chat(s, messages, **fields):
    return s.good("/v1/chat/completions", **{**GREEDY, "messages": messages, "max_tokens": 12, **fields})


def refused(s, path, where, status=400, key=True, method="POST", **fields):
    """OpenAI's error, or Anthropic's on its paths."""
    got, _, text = s.ask(method, path, fields if method == "POST" else None, key=key)
    answer = json.loads(text)
    assert got == status, (path, fields, got, answer)
    if path.startswith("/v1/messages"):
        assert set(answer) == {"type", "error"} and answer["type"] == "error" and set(answer["error"]) == {"type", "message"}, answer
        if where:
            assert where in answer["error"]["message"], (where, answer)
        return answer["error"]["type"]
    assert set(answer["error"]) == {"message", "type", "param", "code"}, answer
    assert answer["error"]["param"] == where, (where, answer)
    return answer["error"]["code"]


# ---- Responses ----

def a_response(s):
    a = respond(s, input="Hi", instructions="Be brief.", metadata={"a": "b"}, user="u", top_p=0.5)
    assert a["object"] == "response" and a["id"].startswith("resp_") and a["model"] == QWEN and a["error"] is None
    assert a["status"] == "incomplete" and a["incomplete_details"] == {"reason": "max_output_tokens"}
    item, = a["output"]
    assert item["type"] == "message" and item["role"] == "assistant" and item["id"].startswith("msg_")
    assert item["content"][0]["type"] == "output_text" and item["content"][0]["annotations"] == []
    assert a["metadata"] == {"a": "b"} and a["instructions"] == "Be brief." and a["user"] == "u" and a["top_p"] == 0.5
    assert a["temperature"] == 0 and a["max_output_tokens"] == 12 and a["store"] is True and a["tools"] == []
    assert a["parallel_tool_calls"] is True and a["tool_choice"] == "auto" and a["truncation"] == "disabled"
    u = a["usage"]
    assert u["output_tokens"] == 12 and u["total_tokens"] == u["input_tokens"] + 12
    assert u["output_tokens_details"] == {"reasoning_tokens": 0} and u["input_tokens_details"]["cached_tokens"] >= 0
    same = chat(s, [{"role": "system", "content": "Be brief."}] + HI)
    assert text_of(a) == same["choices"][0]["message"]["content"] and u["input_tokens"] == same["usage"]["prompt_tokens"]


def end_token(s):
    """The id of the token that ends an answer: with it forced, there is none."""
    return next(i for i in range(256, 301) if respond(s, input="Hi", logit_bias={str(i): 100})["status"] == "completed")


def an_end_is_completed(s):
    a = respond(s, input="Hi", logit_bias={str(end_token(s)): 100})
    assert a["incomplete_details"] is None and a["output"][0]["status"] == "completed" and text_of(a) == ""
    events = s.named_events("/v1/responses", **GREEDY, input="Hi", logit_bias={str(end_token(s)): 100})
    assert events[-1][0] == "response.completed" and events[-1][1]["response"]["status"] == "completed"
    assert [name for name, _ in events if "delta" in name] == [] and len(events) == 8


def a_stream_of_a_response(s):
    whole = respond(s, input="Hi", metadata={"k": "v"})
    events = s.named_events("/v1/responses", **GREEDY, max_output_tokens=12, input="Hi", metadata={"k": "v"})
    assert all(name == data["type"] for name, data in events)
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    names = [name.removeprefix("response.") for name, _ in events]
    assert names[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert names[-4:] == ["output_text.done", "content_part.done", "output_item.done", "incomplete"]
    assert set(names[4:-4]) == {"output_text.delta"}
    for name in ("created", "in_progress"):
        first = dict(events)["response." + name]["response"]
        assert first["status"] == "in_progress" and first["output"] == [] and first["usage"] is None
    deltas = "".join(data["delta"] for name, data in events if name.endswith(".delta"))
    assert deltas == text_of(whole) == events[-4][1]["text"] == events[-3][1]["part"]["text"]
    last = events[-1][1]["response"]
    assert events[-2][1]["item"] == last["output"][0] and dict(events)["response.created"]["response"]["id"] == last["id"]
    for a in (whole, last):
        for name in ("id", "created_at"):
            del a[name]
        del a["output"][0]["id"], a["usage"]["input_tokens_details"]
    assert whole == last
    assert {data["item_id"] for _, data in events if "item_id" in data} == {events[2][1]["item"]["id"]}


def much_is_repeated(s):
    """What events repeat of the request may be more than the queue of a stream holds; no reader is cut for it."""
    tool = {"type": "function", "name": "x", "description": "y" * 600000}
    for n in (1, 2, 5):
        events = s.named_events("/v1/responses", **GREEDY, max_output_tokens=n, input="Hi", tools=[tool], tool_choice="none")
        assert events[0][1]["response"]["tools"] == events[-1][1]["response"]["tools"] == [tool] and len(events) == 8 + n


def forms_of_input(s):
    want = respond(s, input=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi there"}])
    for input in ([{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be "},
                                                                      {"type": "input_text", "text": "brief."}]},
                   {"type": "reasoning", "id": "rs_1", "summary": []},
                   {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi there"}], "status": "completed"}],):
        a = respond(s, input=input)
        assert text_of(a) == text_of(want) and a["usage"]["input_tokens"] == want["usage"]["input_tokens"]
    a = respond(s, input="Hi there", instructions="Be brief.")
    assert text_of(a) == text_of(want)


def answers_are_kept(s):
    a = respond(s, input="Hi", metadata={"é" * 64: "語" * 512})  # characters, as OpenAI counts
    assert a["metadata"] == {"é" * 64: "語" * 512}
    a = respond(s, input="Hi", metadata={"what": "kept"})
    at = "/v1/responses/" + a["id"]
    status, _, text = s.ask("GET", at)
    assert status == 200 and json.loads(text) == a
    events = s.named_events("/v1/responses", **GREEDY, max_output_tokens=5, input="Hi")
    streamed = events[-1][1]["response"]
    assert json.loads(s.ask("GET", "/v1/responses/" + streamed["id"])[2]) == streamed
    secret = respond(s, input="Hi", store=False)
    assert secret["store"] is False
    refused(s, "/v1/responses/" + secret["id"], None, 404, method="GET")
    refused(s, "/v1/responses", "previous_response_id", input="x", previous_response_id=secret["id"], model=QWEN)
    status, _, text = s.ask("DELETE", at)
    assert status == 200 and json.loads(text) == {"id": a["id"], "object": "response", "deleted": True}
    for method in ("GET", "DELETE"):
        refused(s, at, None, 404, method=method)
        refused(s, "/v1/responses/", None, 404, method=method)
        refused(s, at + "/input_items", None, 404, method=method)
    assert s.ask("PUT", at)[0] == 405


def a_conversation_goes_on(s):
    first = respond(s, input="Hi", instructions="Only now.")
    second = respond(s, input="And then?", previous_response_id=first["id"])
    past = HI + [{"role": "assistant", "content": text_of(first)}, {"role": "user", "content": "And then?"}]
    same = chat(s, past)
    assert text_of(second) == same["choices"][0]["message"]["content"] and second["previous_response_id"] == first["id"]
    assert second["usage"]["input_tokens"] == same["usage"]["prompt_tokens"]
    s.ask("DELETE", "/v1/responses/" + first["id"])
    events = s.named_events("/v1/responses", **GREEDY, max_output_tokens=5, input="More", previous_response_id=second["id"])
    past += [{"role": "assistant", "content": text_of(second)}, {"role": "user", "content": "More"}]
    assert text_of(events[-1][1]["response"]) == chat(s, past, max_tokens=5)["choices"][0]["message"]["content"]
    code = refused(s, "/v1/responses", "previous_response_id", model=QWEN, input="x", previous_response_id="resp_" + "0" * 24)
    assert code == "previous_response_not_found"


def any_bytes_go_on(s):
    """What a model says may be no text at all: the conversation goes on, or is refused, whatever the byte."""
    for i in range(301):
        a = respond(s, input="Hi", logit_bias={str(i): 100}, max_output_tokens=3)
        status, _, _ = s.ask("POST", "/v1/responses", {**GREEDY, "input": "x", "max_output_tokens": 1,
                                                        "previous_response_id": a["id"]})
        assert status == 200, (i, status, text_of(a))


def other_tenants_see_nothing():
    with server(models=MODELS[:2], users=("anna",)) as s:
        a = respond(s, input="Hi")
        at, anna = "/v1/responses/" + a["id"], s.users["anna"]
        for method in ("GET", "DELETE"):
            refused(s, at, None, 404, key=anna, method=method)
        refused(s, "/v1/responses", "previous_response_id", key=anna, model=QWEN, input="x", previous_response_id=a["id"])
        assert s.ask("GET", at)[0] == 200
        assert s.ask("GET", at, key=False)[0] == 401 and s.ask("DELETE", at, key="sk-x")[0] == 401
        mine = json.loads(s.ask("POST", "/v1/responses", {**GREEDY, "input": "Hi", "max_output_tokens": 2}, key=anna)[2])
        assert s.ask("GET", "/v1/responses/" + mine["id"], key=anna)[0] == 200
        assert s.ask("GET", "/v1/responses/" + mine["id"])[0] == 404


def many_ask_at_once(s):
    def one(i):
        a = respond(s, input="Number %d" % i, max_output_tokens=4 + i % 5)
        b = respond(s, input="Go on", previous_response_id=a["id"], max_output_tokens=4)
        assert json.loads(s.ask("GET", "/v1/responses/" + a["id"])[2]) == a
        if i % 3 == 0:
            assert s.ask("DELETE", "/v1/responses/" + a["id"])[0] == 200
        return text_of(a), text_of(b)
    alone = [one(i) for i in range(24)]
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        assert list(pool.map(one, range(24))) == alone


# ---- Messages ----

def a_message(s):
    a = say(s, system="Be brief.")
    assert set(a) == {"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"}
    assert a["id"].startswith("msg_") and a["type"] == "message" and a["role"] == "assistant" and a["model"] == QWEN
    assert a["stop_reason"] == "max_tokens" and a["stop_sequence"] is None
    same = chat(s, [{"role": "system", "content": "Be brief."}] + HI)
    assert a["content"] == [{"type": "text", "text": same["choices"][0]["message"]["content"]}]
    u = a["usage"]
    assert u["output_tokens"] == 12 and u["input_tokens"] + u["cache_read_input_tokens"] == same["usage"]["prompt_tokens"]
    blocks = say(s, system=[{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}],
                 messages=[{"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}])
    assert blocks["content"] == a["content"]
    count = s.good("/v1/messages/count_tokens", model=QWEN, system="Be brief.", messages=HI)
    assert count == {"input_tokens": same["usage"]["prompt_tokens"]}


def ends_of_messages(s):
    fields = dict(model=LLAMA, max_tokens=40)
    text = say(s, **fields)["content"][0]["text"]
    at = next(i for i in range(5, len(text) - 2) if "\ufffd" not in text[i:i + 2])
    word = text[at:at + 2]
    a = say(s, **fields, stop_sequences=["never said", word])
    assert a["stop_reason"] == "stop_sequence" and a["stop_sequence"] == word and a["content"][0]["text"] == text[:text.index(word)]
    events = s.named_events("/v1/messages", **fields, temperature=0, messages=HI, stop_sequences=["never said", word])
    assert events[-2][1]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": word}
    reasons = {say(s, logit_bias={str(i): 100})["stop_reason"] for i in range(257, 301)}
    assert "end_turn" in reasons and "stop_sequence" not in reasons


def a_stream_of_a_message(s):
    whole = say(s)
    events = s.named_events("/v1/messages", **GREEDY, max_tokens=12, messages=HI)
    assert all(name == data["type"] for name, data in events)
    names = [name for name, _ in events]
    assert names[:2] == ["message_start", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"] and set(names[2:-3]) == {"content_block_delta"}
    start = events[0][1]["message"]
    assert start["content"] == [] and start["stop_reason"] is None and start["usage"]["input_tokens"] > 0
    assert events[1][1]["content_block"] == {"type": "text", "text": ""}
    assert all(data["index"] == 0 for name, data in events if name.startswith("content_block"))
    assert all(data["delta"]["type"] == "text_delta" for name, data in events if name == "content_block_delta")
    text = "".join(data["delta"]["text"] for name, data in events if name == "content_block_delta")
    assert text == whole["content"][0]["text"]
    assert events[-2][1]["delta"] == {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    assert events[-2][1]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


def errors_in_their_form(s):
    message = dict(model=QWEN, messages=HI, max_tokens=2)
    assert refused(s, "/v1/messages", "API key", 401, key="sk-x", **message) == "authentication_error"
    assert refused(s, "/v1/messages", "gpt-9", 404, **{**message, "model": "gpt-9"}) == "not_found_error"
    assert refused(s, "/v1/messages/none", None, 404) == "not_found_error"
    assert refused(s, "/v1/messages", None, 405, method="GET") == "invalid_request_error"
    assert refused(s, "/v1/messages", "embeddings", **{**message, "model": BERT}) == "invalid_request_error"
    assert refused(s, "/v1/messages", "context", **{**message, "messages": [{"role": "user", "content": "word " * 20000}]})
    assert refused(s, "/v1/messages", "max_tokens", model=QWEN, messages=HI) == "invalid_request_error"
    status, _, text = s.ask("POST", "/v1/messages", "{")
    assert status == 400 and json.loads(text)["error"]["type"] == "invalid_request_error"
    assert s.ask("POST", "/v1/messages", message, key=False, headers={"x-api-key": s.key})[0] == 200
    assert refused(s, "/v1/responses", None, 401, key="sk-x", model=QWEN, input="x") == "invalid_api_key"
    assert refused(s, "/v1/responses", "model", 404, model="gpt-9", input="x") == "model_not_found"
    assert refused(s, "/v1/responses", "input", model=QWEN, input="word " * 20000) == "context_length_exceeded"
    refused(s, "/v1/responses", "model", model=BERT, input="x")


# ---- both ----

def tools_reach_the_template():
    """With a template that prints all it is given, the prompt is known, and so is the answer to it."""
    template = "{{ messages | tojson }}{% if tools %}{{ tools | tojson }}{% endif %}"
    arguments = {"town": "Köln"}
    tools = [{"type": "function", "function": TOOL}]
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    messages = [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "no"}, {"role": "user", "content": "Sure?"}]
    item = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": json.dumps(arguments)}
    said = [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]}]
    input = said + [item, {"type": "function_call_output", "call_id": "c1", "output": "no"}, {"role": "user", "content": "Sure?"}]
    blocks = [{"role": "user", "content": "Rain?"},
              {"role": "assistant", "content": [{"type": "text", "text": "Let me see."},
                                                {"type": "tool_use", "id": "c1", "name": "weather", "input": arguments}]},
              {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "no"}]},
                                           {"type": "text", "text": "Sure?"}]}]
    function = {"type": "function", **TOOL, "strict": True}
    custom = {"name": TOOL["name"], "description": TOOL["description"], "input_schema": TOOL["parameters"]}
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "all.gguf")
        put_template(MODELS[1], model, template)
        with server("--ctx", "2048", models=[model]) as s:
            for choice, given in (("auto", tools), ("none", [])):
                prompt = json.dumps(messages, ensure_ascii=False) + (json.dumps(given, ensure_ascii=False) if given else "")
                want = s.good("/v1/completions", model="all", prompt=prompt, max_tokens=12, temperature=0)
                text, tokens = want["choices"][0]["text"], want["usage"]["prompt_tokens"]
                a = respond(s, model="all", input=input, tools=[function], tool_choice=choice)
                assert a["usage"]["input_tokens"] == tokens and text_of(a) == text, (choice, a)
                assert a["tools"] == [function] and a["tool_choice"] == choice
                fields = dict(model="all", messages=blocks, tools=[custom], tool_choice={"type": choice})
                assert say(s, **fields)["content"][0]["text"] == text
                assert s.good("/v1/messages/count_tokens", **fields)["input_tokens"] == tokens
            # A conversation that is kept has its calls too.
            first = respond(s, model="all", input=said + [item], max_output_tokens=1)
            text = text_of(first)
            past = messages[:2] + [{"role": "assistant", "content": text}] + messages[2:]
            prompt = json.dumps(past, ensure_ascii=False)
            second = respond(s, model="all", input=input[3:], previous_response_id=first["id"])
            want = s.good("/v1/completions", model="all", prompt=prompt, max_tokens=12, temperature=0)
            if "\ufffd" not in text:
                assert second["usage"]["input_tokens"] == want["usage"]["prompt_tokens"]


FORCED = {"type": "object", "properties": {"town": {"enum": ["Rom", "Bonn"]}}, "required": ["town"], "additionalProperties": False}


def calls_of_tools(s):
    """A choice that leaves no choice, so that even the tiny model calls."""
    tools = [{"type": "function", "name": "weather", "parameters": FORCED}, {"type": "function", "name": "time", "parameters": FORCED}]
    fields = dict(GREEDY, input="Rain?", tools=tools, max_output_tokens=100)
    for choice in ("required", {"type": "function", "name": "time"}):
        a = s.good("/v1/responses", **fields, tool_choice=choice)
        call, = a["output"]
        assert call["type"] == "function_call" and call["status"] == "completed" and call["id"].startswith("fc_"), a
        assert call["name"] in (("time",) if choice != "required" else ("weather", "time"))
        assert json.loads(call["arguments"])["town"] in ("Rom", "Bonn") and a["status"] == "completed" and a["tool_choice"] == choice
        events = s.named_events("/v1/responses", **fields, tool_choice=choice)
        assert [name.removeprefix("response.") for name, _ in events] == \
            ["created", "in_progress", "output_item.added", "function_call_arguments.delta", "function_call_arguments.done",
             "output_item.done", "completed"]
        assert [data["sequence_number"] for _, data in events] == list(range(7))
        last = events[-1][1]["response"]["output"][0]
        assert events[5][1]["item"] == last and events[2][1]["item"] == {**last, "arguments": "", "status": "in_progress"}
        assert events[3][1]["delta"] == events[4][1]["arguments"] == last["arguments"] == call["arguments"]
        assert events[3][1]["item_id"] == last["id"]
        result = [{"type": "function_call_output", "call_id": call["call_id"], "output": "no"}]
        kept = respond(s, input=result, previous_response_id=a["id"], tools=tools)
        sent = respond(s, input=[{"role": "user", "content": "Rain?"}, call, *result], tools=tools)
        assert kept["output"][0]["content"] == sent["output"][0]["content"]
        assert kept["usage"]["input_tokens"] == sent["usage"]["input_tokens"]
    custom = [{"name": t["name"], "input_schema": FORCED} for t in tools]
    for choice in ({"type": "any"}, {"type": "tool", "name": "time"}):
        fields = dict(tools=custom, tool_choice=choice, max_tokens=100)
        a = say(s, **fields)
        use, = a["content"]
        assert a["stop_reason"] == "tool_use" and use["type"] == "tool_use" and use["id"].startswith("toolu_")
        assert use["input"]["town"] in ("Rom", "Bonn") and use["name"] in ("time", "weather")[:1 + (choice["type"] == "any")]
        events = s.named_events("/v1/messages", **GREEDY, messages=HI, **fields)
        assert [name for name, _ in events] == ["message_start", "content_block_start", "content_block_delta", "content_block_stop",
                                                "message_delta", "message_stop"]
        assert events[1][1]["content_block"] == {"type": "tool_use", "id": events[1][1]["content_block"]["id"],
                                                 "name": use["name"], "input": {}}
        assert json.loads(events[2][1]["delta"]["partial_json"]) == use["input"] and events[4][1]["delta"]["stop_reason"] == "tool_use"
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use["id"], "content": "no"}]}
        assert say(s, messages=HI + [{"role": "assistant", "content": a["content"]}, result], tools=custom)["type"] == "message"


def answers_of_a_format(s):
    for format in ({"type": "json_schema", "name": "x", "schema": FORCED, "strict": True}, {"type": "json_object"}):
        a = respond(s, input="Hi", text={"format": format}, max_output_tokens=100)
        assert a["text"] == {"format": format}
        if "schema" in format:
            assert a["status"] == "completed" and json.loads(text_of(a))["town"] in ("Rom", "Bonn")
        else:
            assert text_of(a).lstrip().startswith("{")


WRONG = {"string": [5, 0.5, [], {}, True, [1]], "object": [5, "x", [], True, [{}]], "array": [5, "x", {}, True],
         "truth": [5, "true", [], {}], "int": ["x", 0.5, [], {}, True, -1, 2**63, 1e308, float("nan")],
         "number": ["x", [], {}, True, -0.5, 1e308, float("nan")]}
KINDS = {"/v1/responses": {
    "string": ["instructions", "previous_response_id", "user", "safety_identifier", "prompt_cache_key", "service_tier", "truncation"],
    "object": ["metadata", "reasoning", "text", "stream_options", "logit_bias"], "array": ["include", "tools"],
    "truth": ["store", "background", "parallel_tool_calls", "stream"],
    "int": ["max_output_tokens", "top_logprobs", "max_tool_calls"], "number": ["temperature", "top_p", "min_p"]},
    "/v1/messages": {"object": ["metadata", "thinking", "tool_choice"], "array": ["tools", "stop_sequences"], "string": ["service_tier"],
                     "truth": ["stream"], "int": ["max_tokens", "top_k"], "number": ["temperature", "top_p"]}}
BAD = {"/v1/responses": {
    "input": [None, "", [], {}, 5, True, [5], [None], ["x"], [[]], [{}], [{"role": "king", "content": "x"}], [{"role": "user"}],
              [{"role": "user", "content": 5}], [{"role": "user", "content": None}], [{"role": 5, "content": "x"}],
              [{"role": "user", "content": [5]}], [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}],
              [{"type": "item_reference", "id": "x"}], [{"type": 5, "role": "user", "content": "x"}], [{"type": "reasoning"}],
              [{"type": "function_call"}], [{"type": "function_call", "call_id": "c", "name": "n", "arguments": {}}],
              [{"type": "function_call_output", "call_id": "c"}], [{"type": "function_call_output", "output": "x"}],
              [{"type": "function_call_output", "call_id": "c", "output": 5}]],
    "text.format": [{"text": {"format": f}} for f in (5, "text", {}, {"type": 5}, {"type": "grammar"}, {"type": "json_schema", "name": "x"},
                                                {"type": "json_schema", "schema": {"type": "king"}})],
    "truncation": ["auto"], "background": [True], "conversation": ["conv_1", {"id": "x"}], "prompt": [{"id": "pmpt_1"}],
    "include": [[5], ["message.output_text.logprobs"]], "tool_choice": ["required", 5, {"type": "function", "name": "x"}, [], True],
    "tools": [[5], [{"type": "function", "name": "x", "parameters": 5}], [{}], [{"type": "web_search"}], [{"type": "function"}], [{"type": "function", "name": 5}]],
    "metadata": [{"a": 5}, {"a": {}}, {str(i): "x" for i in range(17)}, {"a": "x" * 513}, {"a" * 65: "x"}],
    "previous_response_id": ["", "x", "resp_", "../x", "resp_" + "f" * 100000], "model": [None, 5, [], {}, "", "none"]},
    "/v1/messages": {
    "messages": [None, "", [], {}, 5, "Hi", [5], [None], [[]], [{}], [{"role": "system", "content": "x"}], [{"role": "user"}],
                 [{"role": "user", "content": None}], [{"role": "user", "content": []}], [{"role": "user", "content": [5]}],
                 [{"role": "user", "content": [{"type": "text"}]}], [{"role": "user", "content": [{"type": "image", "source": {}}]}],
                 [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}],
                 [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}}]}],
                 [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b"}]}] + HI,
                 [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "a"}]}] + HI,
                 HI + [{"role": "assistant", "content": "I"}]],
    "system": [5, {}, True, [5], [{"type": "text"}], [None]], "tool_choice": [{}, {"type": "any"}, {"type": 5}, {"type": "tool", "name": "x"}],
    "tools": [[5], [{}], [{"name": 5}], [{"type": "web_search_20250305", "name": "web_search"}]],
    "stop_sequences": [[5], [""], ["x"] * 16, ["x" * 1025], [None]], "max_tokens": [None, 0], "model": [None, 5, [], {}, "", "none"]}}


def hostile_fields(s):
    bases = {"/v1/responses": dict(model=LLAMA, input="Hi", max_output_tokens=2), "/v1/messages": dict(model=LLAMA, messages=HI, max_tokens=2)}
    for path, base in bases.items():
        cases = [(field, value) for kind, fields in KINDS[path].items() for field in fields for value in WRONG[kind]
                 if (field, value) not in (("stop_sequences", "x"), ("top_k", -1))]
        cases += [(field, value) for field, values in BAD[path].items() for value in values]
        for field, value in cases:
            body = {**base, **value} if field == "text.format" else {**base, field: value}
            status, _, text = s.ask("POST", path, body)
            assert status == 400 or (status == 404 and field == "model"), (path, field, value, status, text)
            answer = json.loads(text)
            if path == "/v1/responses":
                assert set(answer["error"]) == {"message", "type", "param", "code"}, (field, value, answer)
                assert answer["error"]["param"] is None or answer["error"]["param"].split("[")[0] == field, (field, value, answer)
            else:
                assert set(answer) == {"type", "error"}, answer
                unreadable = value != value or value == 2**63  # no JSON, no number of ours
                assert unreadable or field in answer["error"]["message"], (field, value, answer)
            if path == "/v1/messages" and field not in ("max_tokens", "stop_sequences", "top_k", "temperature", "top_p", "stream"):
                assert s.ask("POST", path + "/count_tokens", body)[0] == status, (field, value)
        for field in [f for fields in KINDS[path].values() for f in fields] + ["logit_bias", "n", "best_of", "unknown"]:
            if field != "max_tokens":
                assert s.ask("POST", path, {**base, field: None})[0] == 200, field
        # Names that only other forms have are unknown here.
        assert s.ask("POST", path, {**base, "n": 3, "stop": 5, "max_completion_tokens": "x"})[0] == 200


def who_leaves_is_not_kept(s):
    """A stream that the client leaves is cancelled, and the server answers on."""
    import socket
    body = json.dumps(dict(model=LLAMA, input="Go on", max_output_tokens=100000, ignore_eos=True, stream=True))
    with socket.create_connection(("127.0.0.1", s.port)) as c:
        c.sendall(f"POST /v1/responses HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {s.key}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        seen = b""
        while b"output_text.delta" not in seen:
            seen += c.recv(4096)
    s.wait(lambda: s.metric("vllm:num_requests_running") == 0)
    name = seen.split(b'"id":"resp_')[1].split(b'"')[0].decode()
    refused(s, "/v1/responses/resp_" + name, None, 404, method="GET")


# ---- the official packages ----

def the_openai_package(s):
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{s.port}/v1", api_key=s.key, max_retries=0)
    fields = dict(model=QWEN, temperature=0, max_output_tokens=12)
    a = client.responses.create(input="Hi", metadata={"a": "b"}, **fields)
    assert a.output_text and a.status == "incomplete" and a.usage.output_tokens == 12 and a.metadata == {"a": "b"}
    assert type(a).model_validate(a.model_dump()) == a
    assert client.responses.retrieve(a.id) == a
    with client.responses.stream(input="Hi", **fields) as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
    assert text == a.output_text
    with client.responses.stream(input="Hi", **fields, extra_body={"logit_bias": {str(end_token(s)): 100}}) as stream:
        assert stream.get_final_response().status == "completed"
    kinds = [e.type for e in client.responses.create(input="Hi", stream=True, **fields)]
    assert kinds[0] == "response.created" and kinds[-1] == "response.incomplete"
    b = client.responses.create(input=[{"role": "user", "content": "Go on"}], previous_response_id=a.id, **fields)
    assert b.previous_response_id == a.id
    c = client.responses.create(input=[{"role": "user", "content": "Hi"}, *[i.model_dump() for i in a.output],
                                       {"role": "user", "content": "Go on"}], **fields)
    assert c.output_text == b.output_text
    tool = {"type": "function", "name": "weather", "parameters": FORCED, "strict": True}
    with client.responses.stream(input="Hi", tools=[tool], tool_choice="required", model=QWEN, temperature=0) as stream:
        call, = stream.get_final_response().output
    assert call.type == "function_call" and call.parsed_arguments["town"] in ("Rom", "Bonn")
    client.responses.delete(a.id)
    for what, ask in ((openai.NotFoundError, lambda: client.responses.retrieve(a.id)),
                      (openai.BadRequestError, lambda: client.responses.create(input=[], **fields)),
                      (openai.NotFoundError, lambda: client.responses.create(input="x", model="gpt-9")),
                      (openai.AuthenticationError, lambda: client.with_options(api_key="sk-x").responses.retrieve("x"))):
        try:
            ask()
        except what:
            continue
        raise AssertionError(what)


def the_anthropic_package(s):
    client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{s.port}", api_key=s.key, max_retries=0)
    fields = dict(model=QWEN, max_tokens=12, messages=HI, system="Be brief.", extra_body={"temperature": 0})
    a = client.messages.create(**fields)
    assert a.type == "message" and a.stop_reason == "max_tokens" and a.content[0].type == "text" and a.usage.output_tokens == 12
    with client.messages.stream(**fields) as stream:
        assert "".join(stream.text_stream) == a.content[0].text
        last = stream.get_final_message()
    assert last.content[0].text == a.content[0].text and last.stop_reason == a.stop_reason and last.usage.output_tokens == 12
    tool = {"name": "weather", "input_schema": FORCED}
    forced = {**fields, "max_tokens": 100, "tools": [tool], "tool_choice": {"type": "any"}}
    with client.messages.stream(**forced) as stream:
        use, = stream.get_final_message().content
    assert use.type == "tool_use" and use.input == client.messages.create(**forced).content[0].input
    count = client.messages.count_tokens(model=QWEN, messages=HI, system="Be brief.").input_tokens
    assert count == last.usage.input_tokens + last.usage.cache_read_input_tokens
    for what, ask in ((anthropic.NotFoundError, lambda: client.messages.create(**{**fields, "model": "claude"})),
                      (anthropic.BadRequestError, lambda: client.messages.create(**{**fields, "messages": []})),
                      (anthropic.AuthenticationError, lambda: client.with_options(api_key="sk-x").messages.create(**fields))):
        try:
            ask()
        except what as e:
            assert e.body["type"] == "error"
            continue
        raise AssertionError(what)


WITH_SERVER = [a_response, an_end_is_completed, a_stream_of_a_response, much_is_repeated, forms_of_input, answers_are_kept, a_conversation_goes_on,
               any_bytes_go_on, many_ask_at_once, a_message, ends_of_messages, a_stream_of_a_message, calls_of_tools, answers_of_a_format, errors_in_their_form, hostile_fields,
               who_leaves_is_not_kept, the_openai_package, the_anthropic_package]
ALONE = [other_tenants_see_nothing, tools_reach_the_template]

sys.exit(run_tests(WITH_SERVER, ALONE))
