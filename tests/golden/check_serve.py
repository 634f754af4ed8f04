"""Talks to a running qwb-serve as OpenAI's Python client does: sync, async, streams, logprobs,
choices, errors, token ids, cancelled streams.

    qwb-serve recipes/demo/llama --port 8080        # or any model; with a chat template for chats
    python3 tests/golden/check_serve.py http://127.0.0.1:8080 [KEY]

Needs the package openai. Prints one line a check; the exit code is 1 if one failed.
"""

import asyncio
import json
import sys
import time
import urllib.request

import openai

BASE = sys.argv[1].rstrip("/")
KEY = sys.argv[2] if len(sys.argv) > 2 else "none"
client = openai.OpenAI(base_url=BASE + "/v1", api_key=KEY, max_retries=0, timeout=120)
model = client.models.list().data[0].id
info = client.models.retrieve(model)
chats = info.meta["chat"]
failures = 0


def later():
    """A client for one event loop."""
    return openai.AsyncOpenAI(base_url=BASE + "/v1", api_key=KEY, max_retries=0, timeout=120)


PROMPT = "The history of the city begins"
GREEDY = {"model": model, "prompt": PROMPT, "max_tokens": 24, "temperature": 0}
TALK = {
    "model": model,
    "messages": [{"role": "user", "content": "Name three rivers."}],
    "max_completion_tokens": 24,
    "temperature": 0,
}


def check(function):
    global failures
    try:
        result = function()
        if asyncio.iscoroutine(result):
            asyncio.run(result)
        print("ok     ", function.__name__)
    except Exception as error:  # every failure is told, and the others still run
        failures += 1
        print("FAILED ", function.__name__, type(error).__name__, error)


def refused(kind, call, code=None, param=None):
    try:
        call()
    except kind as error:
        assert code is None or error.code == code, error.code
        assert param is None or error.param == param, error.param
        return error
    raise AssertionError(f"not refused with {kind.__name__}")


@check
def model_list():
    assert info.id == model and info.object == "model" and info.owned_by == "qwb"


@check
def text():
    one, two = (client.completions.create(**GREEDY) for _ in range(2))
    assert one.choices[0].text and one.choices[0].text == two.choices[0].text
    usage = one.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@check
def text_stream():
    whole = client.completions.create(**GREEDY)
    parts, usage, ends = "", None, []
    stream = client.completions.create(
        **GREEDY, stream=True, stream_options={"include_usage": True})
    for chunk in stream:
        if chunk.usage:
            usage = chunk.usage
            assert chunk.choices == []
            continue
        parts += chunk.choices[0].text
        ends.append(chunk.choices[0].finish_reason)
    assert parts == whole.choices[0].text
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert usage.prompt_tokens == whole.usage.prompt_tokens
    assert ends[-1] == whole.choices[0].finish_reason and set(ends[:-1]) <= {None}


@check
def echo_with_logprobs():
    answer = client.completions.create(
        model=model, prompt=PROMPT, max_tokens=1, temperature=0, echo=True, logprobs=3)
    scores = answer.choices[0].logprobs
    assert scores.token_logprobs[0] is None and all(v <= 0 for v in scores.token_logprobs[1:])
    assert len(scores.tokens) == answer.usage.prompt_tokens + 1
    for value, top in zip(scores.token_logprobs[1:], scores.top_logprobs[1:]):
        assert value <= max(top.values()) and 3 <= len(top) <= 4
    assert answer.choices[0].text.startswith(PROMPT)


@check
def token_ids_and_several_prompts():
    body = json.dumps({"model": model, "content": PROMPT, "add_special": True}).encode()
    request = urllib.request.Request(
        BASE + "/tokenize", body,
        {"Content-Type": "application/json", "Authorization": "Bearer " + KEY})
    ids = json.load(urllib.request.urlopen(request))["tokens"]
    by_ids = client.completions.create(**{**GREEDY, "prompt": ids})
    both = client.completions.create(**{**GREEDY, "prompt": [PROMPT, "Once upon a time"]})
    assert by_ids.choices[0].text == both.choices[0].text and len(both.choices) == 2


@check
def choices_and_seeds():
    hot = {**GREEDY, "temperature": 1.0, "seed": 5}
    three = client.completions.create(**hot, n=3)
    again = client.completions.create(**hot, n=3)
    second = client.completions.create(**{**hot, "seed": 6})
    assert [c.text for c in three.choices] == [c.text for c in again.choices]
    assert three.choices[1].text == second.choices[0].text


@check
def stop_strings():
    whole = client.completions.create(**GREEDY).choices[0].text
    stop = whole[8:12]
    cut = client.completions.create(**GREEDY, stop=[stop]).choices[0]
    assert cut.text == whole[: whole.index(stop)] and cut.finish_reason == "stop"


@check
def together():
    async def run():
        client = later()
        alone = [await client.completions.create(**{**GREEDY, "prompt": f"{PROMPT} {i}"})
                 for i in range(4)]
        beside = await asyncio.gather(*(
            client.completions.create(**{**GREEDY, "prompt": f"{PROMPT} {i}"}) for i in range(4)))
        assert [a.choices[0].text for a in alone] == [b.choices[0].text for b in beside]
    return run()


@check
def errors():
    refused(openai.NotFoundError, lambda: client.completions.create(**{**GREEDY, "model": "gpt-5"}),
            "model_not_found", "model")
    refused(openai.BadRequestError,
            lambda: client.completions.create(**{**GREEDY, "temperature": 9}), param="temperature")
    refused(openai.BadRequestError,
            lambda: client.completions.create(**GREEDY, logit_bias={"5": 1}),
            "unsupported_value", "logit_bias")
    too_long = "word " * (info.meta["n_ctx"] + 10)
    error = refused(openai.BadRequestError,
                    lambda: client.completions.create(**{**GREEDY, "prompt": too_long}),
                    "context_length_exceeded")
    assert error.body["n_prompt_tokens"] > error.body["n_ctx"]
    refused(openai.NotFoundError, lambda: client.embeddings.create(model=model, input="a"))


@check
def a_stream_that_is_left_frees_its_place():
    stream = client.completions.create(
        model=model, prompt=PROMPT, max_tokens=info.meta["n_ctx"] // 2, temperature=0, stream=True,
        extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    begin = time.time()
    client.completions.create(**{**GREEDY, "n": 4})
    assert time.time() - begin < 20


if chats:

    @check
    def chat():
        one = client.chat.completions.create(**TALK)
        assert one.choices[0].message.role == "assistant" and one.choices[0].message.content
        print("        ", repr(one.choices[0].message.content[:60]))

    @check
    def chat_stream():
        whole = client.chat.completions.create(**TALK).choices[0].message.content
        stream = client.chat.completions.create(**TALK, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in stream) == whole

    @check
    def chat_stream_helper():
        # The helper takes an answer that was cut by its length for an error.
        with client.chat.completions.stream(**TALK, stop=[" "]) as stream:
            for _ in stream:
                pass
            final = stream.get_final_completion()
        assert final.choices[0].message.content

    @check
    def chat_async_stream():
        async def run():
            stream = await later().chat.completions.create(**TALK, stream=True)
            text = [c.choices[0].delta.content or "" async for c in stream]
            assert "".join(text)
        return run()

    @check
    def chat_logprobs():
        answer = client.chat.completions.create(**TALK, logprobs=True, top_logprobs=5)
        content = answer.choices[0].logprobs.content
        text = bytes(b for t in content for b in t.bytes).decode()
        assert text == answer.choices[0].message.content
        assert all(len(t.top_logprobs) == 5 for t in content)
        # Greedy: the token that was taken is the likeliest.
        assert all(t.logprob == t.top_logprobs[0].logprob for t in content)

    @check
    def chat_errors():
        bad = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
        refused(openai.BadRequestError,
                lambda: client.chat.completions.create(**{**TALK, "messages": bad}),
                param="messages[0].content")
        refused(openai.BadRequestError,
                lambda: client.chat.completions.create(
                    **TALK, response_format={"type": "json_object"}), param="response_format")
else:
    print("no chat template: chats are not checked")

sys.exit(1 if failures else 0)
