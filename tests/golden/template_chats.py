"""Conversations, tools and variables to render chat templates with."""

def call(name, arguments, id="abcdefghi", **more):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells <the> \"weather\" & 'more'\nof a town.", "parameters": {"type": "object", "properties": {"town": {"type": "string", "description": "where", "enum": ["Z\u00fcrich", "\u6771\u4eac"]}, "days": {"type": "integer", "default": 1.5}, "deep": {"type": "object", "properties": {"list": {"type": "array", "items": {"type": ["string", "null"]}}, "any": {"anyOf": [{"type": "string"}, {"type": "number"}]}}, "required": ["list"]}, "flag": {"type": "boolean", "nullable": True}}, "required": ["town"]}, "return": {"type": "string"}}}
BARE = {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}}
PLAIN = {"name": "plain", "description": "A tool without function.", "parameters": {"type": "object", "properties": {"x": {"type": "number", "description": "n"}}, "required": ["x"]}}
CODE = {"type": "code_interpreter"}
STRICT = {"type": "function", "function": {"name": "strict_one", "description": "d", "strict": True, "parameters": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"type": "array", "items": {"type": "object", "properties": {"c": {"type": "string"}}}}}, "additionalProperties": False, "$defs": {"A": {"type": "string", "const": "k"}}}}}
TOOL_SETS = [None, [], [WEATHER], [WEATHER, BARE, STRICT], [PLAIN], [CODE, WEATHER]]

U = lambda content, **more: {"role": "user", "content": content, **more}
A = lambda content, **more: {"role": "assistant", "content": content, **more}
S = lambda content, **more: {"role": "system", "content": content, **more}
T = lambda content, **more: {"role": "tool", "content": content, **more}
text = lambda *parts: [{"type": "text", "text": part} for part in parts]
ARGUMENTS = {"town": "Z\u00fcrich", "days": 2, "x": [None, True, 1.0, 1e22, "\n"], "o": {"k": "v"}}

CHATS = {
    "hi": [U("Hi")],
    "system": [S("Be brief."), U("Hi")],
    "system spaces": [S("  Be brief.\n"), U(" Hi <b>\n"), A(" Hello\t'there' \n"), U("\u00dcber \U0001F600?")],
    "turns": [U("a"), A("b"), U("c"), A("d"), U("e")],
    "many": [S("s")] + [m for i in range(12) for m in (U(f"q{i}"), A(f"a{i}"))] + [U("end")],
    "ends with assistant": [U("a"), A("b")],
    "empty texts": [S(""), U(""), A(""), U("")],
    "none": [],
    "only system": [S("alone")],
    "assistant first": [A("first"), U("second")],
    "assistant twice": [U("x"), A("first"), A("second"), U("y")],
    "user twice": [U("x"), U("y")],
    "think": [U("a"), A("<think>\nhm\n</think>\n\nb"), U("c"), A("<think>open"), U("d")],
    "reasoning": [U("a"), A("b", reasoning_content="why"), U("c"), A("d", reasoning_content=" because \n"), U("e")],
    "reasoning other names": [U("a"), A("b", thinking="t"), U("c"), A("d", reasoning="r"), U("e")],
    "reasoning last": [U("a"), A("b", reasoning_content="why")],
    "reasoning empty": [U("a"), A("b", reasoning_content=""), U("c"), A("d", reasoning_content=None), U("e")],
    "tool dict": [U("weather?"), A("", tool_calls=[call("weather", ARGUMENTS)]), T("rain", name="weather", tool_call_id="abcdefghi"), A("Rain."), U("ok")],
    "tool string": [U("weather?"), A("", tool_calls=[call("weather", '{"town": "Z\u00fcrich", "days": 2}')]), T("rain", name="weather", tool_call_id="abcdefghi"), A("Rain."), U("ok")],
    "tool null content": [U("weather?"), A(None, tool_calls=[call("weather", {"town": "x"})]), T("rain", tool_call_id="abcdefghi"), A("Rain.")],
    "tool absent content": [U("weather?"), {"role": "assistant", "tool_calls": [call("weather", {"town": "x"})]}, T("rain", tool_call_id="abcdefghi")],
    "tool with text": [S("s"), U("q"), A("Let me look.", tool_calls=[call("now", {})]), T("12:00", name="now", tool_call_id="abcdefghi"), A("Noon."), U("thanks")],
    "tool pending": [U("q"), A("", tool_calls=[call("now", {})])],
    "tools parallel": [U("q"), A("", tool_calls=[call("now", {}, "aaaaaaaaa"), call("weather", {"town": "y", "n": 3}, "bbbbbbbbb")]), T("1", name="now", tool_call_id="aaaaaaaaa"), T("2", name="weather", tool_call_id="bbbbbbbbb"), A("done"), U("more"), A("", tool_calls=[call("now", {}, "ccccccccc")]), T("3", name="now", tool_call_id="ccccccccc")],
    "tool and reasoning": [U("q"), A("", reasoning_content="need it", tool_calls=[call("now", {})]), T("12", tool_call_id="abcdefghi", name="now"), A("x", reasoning_content="so"), U("z")],
    "tool result dict": [U("q"), A("", tool_calls=[call("now", {})]), T({"a": 1, "b": [True, None]}, name="now", tool_call_id="abcdefghi"), U("z")],
    "tool result parts": [U("q"), A("", tool_calls=[call("now", {})]), T(text("one", "two"), name="now", tool_call_id="abcdefghi"), U("z")],
    "tool call bare": [U("q"), A("", tool_calls=[{"name": "now", "arguments": {"a": 1}}]), T("r"), U("z")],
    "tool calls empty": [U("q"), A("a", tool_calls=[]), U("z"), A("b", tool_calls=None)],
    "function call old": [U("q"), A(None, function_call={"name": "now", "arguments": "{}"}), {"role": "function", "name": "now", "content": "1"}],
    "parts": [U(text("part one", "two")), A(text("answer")), U(text(" last "))],
    "parts system": [S(text("be", "kind")), U(text("hi"))],
    "parts image": [U([{"type": "text", "text": "see"}, {"type": "image"}, {"type": "text", "text": "this"}]), A("ok")],
    "parts other": [U([{"type": "image_url", "image_url": {"url": "http://x"}}, {"type": "text", "text": "t"}]), U([{"type": "video"}, {"type": "audio", "audio": "a"}])],
    "null user": [U(None), A("x")],
    "unicode": [S("\u4f60\u597d"), U("\U0001F468\u200d\U0001F469\u200d\U0001F467 e\u0301 \u202e \ufeff"), A("\u00df\u0130\u01c5\u03a3"), U("\u3000x\u00a0")],
    "braces": [U("{{ x }} {% y %} {# z #}"), A("<|im_end|></s>[INST]"), U("\\n \\\\ \" '")],
    "newlines": [U("a\r\nb\rc\n\n\n"), A("\n\n"), U("\tx")],
    "developer": [{"role": "developer", "content": "dev"}, U("Hi"), A("yo")],
    "system twice": [S("one"), U("Hi"), S("two"), U("Ho"), A("he")],
    "odd role": [U("a"), {"role": "ipython", "content": "b"}, {"role": "observation", "content": "c"}, A("d")],
    "extra keys": [U("a", name="Bob", id=7), A("b", prefix=True, weight=1), U("c", date="2024-01-01")],
    "numbers": [U(5), A(1.5), U(True)],
    "documents role": [S("s"), U("q"), A("a", citations=[{"start": 0, "end": 1}]), {"role": "documents", "content": "d"}, U("z")],
}
VARIABLES = [
    {},
    {"enable_thinking": False},
    {"enable_thinking": True, "thinking": True, "date_string": "26 Jul 2024", "reasoning_effort": "high"},
    {"thinking": False, "thinking_budget": 512, "builtin_tools": ["browser", "python"], "tools_in_user_message": False, "add_default_system_prompt": False, "keep_past_thinking": True, "preserve_thinking": True, "clear_thinking": False, "model_identity": "I am X."},
]
CONFIG = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def requests():
    """About 600 of a template."""
    for name, chat in CHATS.items():
        for number, tools in enumerate(TOOL_SETS):
            for prompt in (False, True):
                few = VARIABLES if number in (0, 2) else VARIABLES[:1]
                for variables in few:
                    yield name, {"messages": chat, "tools": tools, "add_generation_prompt": prompt, "variables": variables}
