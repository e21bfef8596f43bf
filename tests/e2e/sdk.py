#!/usr/bin/env python3
"""End to end: `solvent serve` as the clients that people use see it: openai, litellm, langchain-openai, instructor, in
the versions of requirements.txt. Talks to SmolLM2 where the sense of an answer matters, else to the tiny models.

Usage: sdk.py SOLVENT. Prints a line a test, then "N passed, N failed". Wants smollm2-135m in the user's store
(`solvent pull smollm2-135m`).
"""
import asyncio
import base64
import concurrent.futures
import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))
import e2e_venv

e2e_venv.enter()

os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", OPENAI_API_KEY="", HF_HUB_OFFLINE="1", LANGSMITH_TRACING="false",
                  LITELLM_LOG="ERROR")
import instructor
import litellm
import openai
import pydantic
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

import solvent_server
from solvent_server import BERT, LLAMA, QWEN, run_tests

STORE = os.path.join(os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "solvent", "models")
SMOL = "smollm2-135m"
solvent_server.MODELS.append(os.path.join(STORE, SMOL + ".gguf"))
litellm.suppress_debug_info = True
HI = [{"role": "user", "content": "Hi"}]
SUM = "What is 2+2?"
ASKED = [{"role": "user", "content": SUM}]
RUNNING = "vllm:num_requests_running"


class Loose(pydantic.BaseModel):
    name: str
    people: int | list[int]


class Town(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=20)
    people: int


def base(s):
    return f"http://127.0.0.1:{s.port}/v1"


def client(s, **more):
    return openai.OpenAI(base_url=base(s), api_key=more.pop("api_key", s.key), **{"max_retries": 0, **more})


def raises(kind, call, **want):
    try:
        call()
    except kind as e:
        for name, value in want.items():
            assert getattr(e, name) == value, (name, getattr(e, name), value)
        return e
    raise AssertionError("no " + kind.__name__)


# ---- openai ----


def openai_models(s):
    c = client(s)
    assert [m.id for m in c.models.list()] == [LLAMA, QWEN, BERT, SMOL]
    assert c.models.retrieve(SMOL).owned_by == "solvent"
    raises(openai.NotFoundError, lambda: c.models.retrieve("none"), code="model_not_found")


def openai_chat(s):
    a = client(s).chat.completions.create(model=SMOL, messages=ASKED, temperature=0, max_tokens=30)
    assert "4" in a.choices[0].message.content, a.choices[0].message.content
    assert a.choices[0].finish_reason == "stop" and a._request_id
    assert a.usage.total_tokens == a.usage.prompt_tokens + a.usage.completion_tokens
    assert a.usage.prompt_tokens_details.cached_tokens >= 0
    system = client(s).chat.completions.create(
        model=SMOL, temperature=0, max_completion_tokens=5, seed=1, user="me", metadata={"a": "b"}, store=False,
        messages=[{"role": "developer", "content": "Speak."},
                  {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "Anna"}])
    assert system.usage.completion_tokens <= 5


def openai_stream(s):
    c = client(s)
    fields = dict(model=SMOL, messages=ASKED, temperature=0, max_tokens=30)
    whole = c.chat.completions.create(**fields)
    chunks = list(c.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
    assert "".join(x.choices[0].delta.content or "" for x in chunks if x.choices) == whole.choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(x.usage is None for x in chunks[:-1])
    with c.chat.completions.stream(**fields) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds, kinds
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == whole.choices[0].finish_reason


def openai_logprobs(s):
    c = client(s)
    fields = dict(model=LLAMA, messages=HI, temperature=0, max_tokens=6, logprobs=True, top_logprobs=3)
    a = c.chat.completions.create(**fields)
    rows = a.choices[0].logprobs.content
    assert len(rows) == a.usage.completion_tokens and all(len(r.top_logprobs) == 3 and r.logprob <= 0 for r in rows)
    again = [r for x in c.chat.completions.create(**fields, stream=True) if x.choices[0].logprobs
             for r in x.choices[0].logprobs.content]
    assert [(r.token, r.logprob) for r in again] == [(r.token, r.logprob) for r in rows]


def openai_n_and_stop(s):
    c = client(s)
    a = c.chat.completions.create(model=QWEN, messages=HI, n=4, seed=7, max_tokens=12)
    assert [x.index for x in a.choices] == [0, 1, 2, 3] and len({x.message.content for x in a.choices}) > 1
    text = c.completions.create(model=LLAMA, prompt="Once", max_tokens=30, temperature=0).choices[0].text
    for stop in (text[8:11], [text[8:11], "\x7f never"]):
        a = c.completions.create(model=LLAMA, prompt="Once", max_tokens=30, temperature=0, stop=stop)
        assert a.choices[0].text == text[:text.index(text[8:11])] and a.choices[0].finish_reason == "stop"
    biased = c.completions.create(model=LLAMA, prompt="Once", max_tokens=3, temperature=0, logit_bias={"20": 100}, logprobs=1)
    assert len(set(biased.choices[0].logprobs.tokens)) == 1


def openai_errors(s):
    ask = lambda **more: client(s).chat.completions.create(**{**dict(model=LLAMA, messages=HI, max_tokens=2), **more})
    raises(openai.AuthenticationError, lambda: client(s, api_key="sk-no").models.list(), status_code=401,
           code="invalid_api_key")
    raises(openai.NotFoundError, lambda: ask(model="gpt-4o"), status_code=404, code="model_not_found", param="model")
    raises(openai.BadRequestError, lambda: ask(temperature=3), param="temperature", type="invalid_request_error")
    raises(openai.BadRequestError, lambda: ask(messages=[]), param="messages")
    raises(openai.BadRequestError, lambda: ask(model=BERT), param="model")
    raises(openai.BadRequestError, lambda: ask(top_logprobs=2), param="top_logprobs")
    raises(openai.BadRequestError, lambda: ask(messages=[{"role": "user", "content": "word " * 20000}]),
           code="context_length_exceeded")
    raises(openai.BadRequestError, lambda: ask(response_format={"type": "json_schema", "json_schema": {
        "name": "x", "schema": {"type": "object", "properties": 5}}}), param="response_format")
    e = raises(openai.APIStatusError, lambda: ask(messages=[{"role": "user", "content": "x" * (5 << 20)}]))
    assert e.status_code == 413
    raises(openai.APITimeoutError, lambda: client(s, timeout=0.2).completions.create(
        model=SMOL, prompt="x", max_tokens=100000, extra_body={"ignore_eos": True}))
    s.wait(lambda: s.metric(RUNNING) == 0)


def openai_retries():
    """A queue of one: without retries some are refused, with the client's own (when Retry-After says) none."""
    with solvent_server.server("--queue", "1", "--running", "1", "--ctx", "1024", models=solvent_server.MODELS[:1]) as s:
        fields = dict(model=LLAMA, prompt="Go on", max_tokens=800, extra_body={"ignore_eos": True})

        def ask(retries):
            try:
                return client(s, max_retries=retries).completions.create(**fields).usage.completion_tokens
            except openai.RateLimitError as e:
                assert e.code == "rate_limit_exceeded" and e.response.headers["Retry-After"] == "1"
                return 0

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert 0 in pool.map(ask, [0] * 4)
            assert set(pool.map(ask, [60] * 4)) == {800}


def openai_completions(s):
    c = client(s)
    a = c.completions.create(model=SMOL, prompt="The capital of France is", temperature=0, max_tokens=4, logprobs=2, echo=True)
    assert a.choices[0].text.startswith("The capital of France is Paris"), a.choices[0].text
    assert len(a.choices[0].logprobs.tokens) == 4 and all(len(t) == 2 for t in a.choices[0].logprobs.top_logprobs)
    texts = ["", ""]
    for x in c.completions.create(model=LLAMA, prompt=["One", "Two"], temperature=0, max_tokens=9, stream=True):
        texts[x.choices[0].index] += x.choices[0].text
    both = c.completions.create(model=LLAMA, prompt=["One", "Two"], temperature=0, max_tokens=9)
    assert [x.text for x in both.choices] == texts


def openai_embeddings(s):
    """The client asks for base64 unless told otherwise, and unpacks it."""
    c = client(s)
    a = c.embeddings.create(model=BERT, input=["hello", "a b c"])
    b = c.embeddings.create(model=BERT, input=["hello", "a b c"], encoding_format="float")
    assert len(a.data) == 2 and all(isinstance(v, float) for v in a.data[0].embedding)
    for x, y in zip(a.data, b.data):
        assert list(x.embedding) == list(struct.unpack(f"<{len(y.embedding)}f", struct.pack(f"<{len(y.embedding)}f", *y.embedding)))
    raw = c.embeddings.create(model=BERT, input="hello", encoding_format="base64").data[0].embedding
    assert isinstance(raw, str) and len(base64.b64decode(raw)) == 4 * len(b.data[0].embedding)
    ids = c.embeddings.create(model=BERT, input=[[5, 6], [7]])
    assert len(ids.data) == 2 and ids.usage.prompt_tokens == 3
    raises(openai.BadRequestError, lambda: c.embeddings.create(model=BERT, input=""), param="input")
    raises(openai.BadRequestError, lambda: c.embeddings.create(model=BERT, input="x", dimensions=3), param="dimensions")


def openai_parse(s):
    """A class of pydantic's as the form of the answer."""
    c = client(s)
    fields = dict(model=SMOL, temperature=0, max_tokens=100, response_format=Town,
                  messages=[{"role": "user", "content": "Paris has 2102650 people. Answer as JSON."}])
    a = c.chat.completions.parse(**fields).choices[0]
    assert isinstance(a.message.parsed, Town) and a.message.parsed.name, a
    with c.chat.completions.stream(**fields) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == a.message.parsed
    e = raises(openai.LengthFinishReasonError, lambda: c.chat.completions.parse(**{**fields, "max_tokens": 3}))
    assert e.completion.usage.completion_tokens == 3


TOOL = {"type": "function", "function": {"name": "town", "description": "Notes a town.", "parameters": {
    "type": "object", "properties": {"name": {"type": "string", "maxLength": 20}}, "required": ["name"], "additionalProperties": False}}}


def openai_tools(s):
    """A call that is demanded, and the turn after it."""
    c = client(s)
    messages = [{"role": "user", "content": "Note Paris."}]
    fields = dict(model=SMOL, temperature=0, max_tokens=60, tools=[TOOL])
    for choice in ("required", {"type": "function", "function": {"name": "town"}}):
        a = c.chat.completions.create(**fields, messages=messages, tool_choice=choice).choices[0]
        call, = a.message.tool_calls
        assert a.finish_reason == "tool_calls" and call.function.name == "town" and json.loads(call.function.arguments)["name"]
    with c.chat.completions.stream(**fields, messages=messages, tool_choice="required") as stream:
        streamed, = stream.get_final_completion().choices[0].message.tool_calls
    assert json.loads(streamed.function.arguments) == json.loads(call.function.arguments)
    after = messages + [a.message, {"role": "tool", "tool_call_id": call.id, "content": "noted"}]
    assert c.chat.completions.create(**fields, messages=after, tool_choice="none").choices[0].message.content
    raises(openai.BadRequestError, lambda: c.chat.completions.create(
        **fields, messages=messages, tool_choice={"type": "function", "function": {"name": "other"}}), param="tool_choice")


def openai_cancel(s):
    """Who closes a stream gives back its slot."""
    forever = dict(model=SMOL, messages=HI, stream=True, max_tokens=100000, extra_body={"ignore_eos": True})
    with client(s).chat.completions.create(**forever) as stream:
        for _ in range(3):
            next(stream)
        assert s.metric(RUNNING) == 1
    s.wait(lambda: s.metric(RUNNING) == 0, 3)
    aborted = s.metric('vllm:request_success_total{finished_reason="abort"}')

    async def leave():
        async with openai.AsyncOpenAI(base_url=base(s), api_key=s.key) as c:
            task = asyncio.create_task(c.chat.completions.create(**{**forever, "stream": False}))
            while not await asyncio.to_thread(s.metric, RUNNING):
                await asyncio.sleep(0.02)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return True

    assert asyncio.run(leave())
    s.wait(lambda: s.metric(RUNNING) == 0, 3)
    s.wait(lambda: s.metric('vllm:request_success_total{finished_reason="abort"}') == aborted + 1, 3)


def openai_async(s):
    async def many():
        async with openai.AsyncOpenAI(base_url=base(s), api_key=s.key) as c:
            async def one(i):
                text = ""
                async for x in await c.completions.create(model=LLAMA, prompt=f"Number {i}", temperature=0, max_tokens=20,
                                                          stream=True):
                    text += x.choices[0].text
                return text
            return await asyncio.gather(*map(one, range(16)))

    c = client(s)
    assert asyncio.run(many()) == [
        c.completions.create(model=LLAMA, prompt=f"Number {i}", temperature=0, max_tokens=20).choices[0].text for i in range(16)]


# ---- litellm ----


def lite(s, **more):
    return dict(model="openai/" + SMOL, messages=ASKED, api_base=base(s), api_key=s.key, temperature=0, max_tokens=30, **more)


def litellm_chat(s):
    a = litellm.completion(**lite(s))
    assert "4" in a.choices[0].message.content and a.usage.completion_tokens > 0
    chunks = list(litellm.completion(**lite(s, stream=True, stream_options={"include_usage": True})))
    assert "".join(x.choices[0].delta.content or "" for x in chunks if x.choices) == a.choices[0].message.content
    assert litellm.stream_chunk_builder(chunks).usage.completion_tokens == a.usage.completion_tokens
    assert asyncio.run(litellm.acompletion(**lite(s))).choices[0].message.content == a.choices[0].message.content
    old = litellm.text_completion(model="text-completion-openai/" + SMOL, prompt="The capital of France is", max_tokens=4,
                                  temperature=0, api_base=base(s), api_key=s.key)
    assert "Paris" in old.choices[0].text
    assert len(litellm.embedding(model="openai/" + BERT, input=["a", "b"], api_base=base(s), api_key=s.key).data) == 2


def litellm_errors(s):
    ask = lambda **more: litellm.completion(**{**lite(s), "num_retries": 0, "max_retries": 0, **more})
    raises(litellm.AuthenticationError, lambda: ask(api_key="sk-no"))
    raises(litellm.NotFoundError, lambda: ask(model="openai/none"))
    raises(litellm.BadRequestError, lambda: ask(temperature=9))
    raises(litellm.ContextWindowExceededError, lambda: ask(messages=[{"role": "user", "content": "word " * 20000}]))


# ---- langchain-openai ----


def langchain_chat(s):
    llm = ChatOpenAI(model=SMOL, base_url=base(s), api_key=s.key, temperature=0, max_tokens=30, max_retries=0)
    a = llm.invoke(SUM)
    assert "4" in a.content and a.usage_metadata["output_tokens"] > 0, a
    assert a.response_metadata["finish_reason"] == "stop" and a.response_metadata["model_name"] == SMOL
    assert "".join(x.content for x in llm.stream(SUM)) == a.content
    both = llm.batch([SUM] * 2)
    assert [x.content for x in both] == [a.content] * 2
    probs = llm.bind(logprobs=True).invoke("Hi").response_metadata["logprobs"]["content"]
    assert probs and all(p["logprob"] <= 0 for p in probs)
    form = ChatOpenAI(model=SMOL, base_url=base(s), api_key=s.key, temperature=0, max_tokens=100)
    assert isinstance(form.with_structured_output(Town, method="json_schema").invoke("Paris has 2102650 people."), Town)
    raises(openai.NotFoundError, lambda: ChatOpenAI(model="none", base_url=base(s), api_key=s.key).invoke("Hi"))


def langchain_embeddings(s):
    """Without its check of lengths, which fetches a tokenizer of OpenAI's."""
    e = OpenAIEmbeddings(model=BERT, base_url=base(s), api_key=s.key, check_embedding_ctx_length=False)
    both = e.embed_documents(["hello", "a b c"])
    assert len(both) == 2 and abs(sum(v * v for v in both[0]) - 1) < 1e-4
    assert e.embed_query("hello") == both[0]


# ---- instructor ----


def instructor_forms(s):
    """JSON: any object, told in words which; JSON_SCHEMA and TOOLS: the form is kept."""
    for mode, form in ((instructor.Mode.JSON, Loose), (instructor.Mode.JSON_SCHEMA, Town), (instructor.Mode.TOOLS, Town)):
        town = instructor.from_openai(client(s), mode=mode).chat.completions.create(
            model=SMOL, temperature=0, max_tokens=200, response_model=form, max_retries=0,
            messages=[{"role": "user", "content": "Lyon has 522250 people."}, # shown once, which even a small model copies
                      {"role": "assistant", "content": '{"name": "Lyon", "people": 522250}'},
                      {"role": "user", "content": "Paris has 2102650 people."}])
        assert isinstance(town, form) and town.name


WITH_SERVER = [openai_models, openai_chat, openai_stream, openai_logprobs, openai_n_and_stop, openai_errors,
               openai_completions, openai_embeddings, openai_parse, openai_tools, openai_cancel, openai_async, litellm_chat,
               litellm_errors, langchain_chat, langchain_embeddings, instructor_forms]
ALONE = [openai_retries]

if __name__ == "__main__":
    sys.exit(run_tests(WITH_SERVER, ALONE))
