"""The chat part of make_tokenizer.py, which runs it (root, out, json and sys are its)."""
from transformers.utils.chat_template_utils import render_jinja_template

TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Tells <the> \"weather\" & more", "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["Z\u00fcrich", "\u6771\u4eac"]}, "days": {"type": "integer", "default": 1.5}}, "required": ["city"]}}}]
CHATS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "  Be brief.\n"}, {"role": "user", "content": "Hi <b>\n"}, {"role": "assistant", "content": " Hello\t'there' "}, {"role": "user", "content": "\u00dcber \U0001F600?"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d", "reasoning_content": "why"}],
    [{"role": "user", "content": "weather?"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": {"city": "Z\u00fcrich", "days": 2, "x": [None, True, 1.0, 1e22, "\n"]}}}]}, {"role": "tool", "name": "weather", "tool_call_id": "abcdefghi", "content": "rain"}, {"role": "assistant", "content": "Rain."}, {"role": "user", "content": "ok"}],
    [{"role": "assistant", "content": "first"}, {"role": "assistant", "content": "second"}],
    [{"role": "user", "content": [{"type": "text", "text": "part one"}, {"type": "image"}, {"type": "text", "text": "two"}]}],
    [],
]
TEMPLATES = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "mistral": "{%- if messages[0][\"role\"] == \"system\" %}\n    {%- set system_message = messages[0][\"content\"] %}\n    {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n{%- if not tools is defined %}\n    {%- set tools = none %}\n{%- endif %}\n{%- set user_messages = loop_messages | selectattr(\"role\", \"equalto\", \"user\") | list %}\n\n{%- set ns = namespace() %}\n{%- set ns.index = 0 %}\n{%- for message in loop_messages %}\n    {%- if not (message.role == \"tool\" or message.role == \"tool_results\" or (message.tool_calls is defined and message.tool_calls is not none)) %}\n        {%- if (message[\"role\"] == \"user\") != (ns.index % 2 == 0) %}\n            {{- raise_exception(\"After the optional system message, conversation roles must alternate\") }}\n        {%- endif %}\n        {%- set ns.index = ns.index + 1 %}\n    {%- endif %}\n{%- endfor %}\n\n{{- bos_token }}\n{%- for message in loop_messages %}\n    {%- if message[\"role\"] == \"user\" %}\n        {%- if tools is not none and (message == user_messages[-1]) %}\n            {{- \"[AVAILABLE_TOOLS] [\" }}\n            {%- for tool in tools %}\n                {%- set tool = tool.function %}\n                {{- '{\"type\": \"function\", \"function\": {' }}\n                {%- for key, val in tool.items() if key != \"return\" %}\n                    {%- if val is string %}\n                        {{- '\"' + key + '\": \"' + val + '\"' }}\n                    {%- else %}\n                        {{- '\"' + key + '\": ' + val|tojson }}\n                    {%- endif %}\n                    {%- if not loop.last %}\n                        {{- \", \" }}\n                    {%- endif %}\n                {%- endfor %}\n                {{- \"}}\" }}\n                {%- if not loop.last %}\n                    {{- \", \" }}\n                {%- else %}\n                    {{- \"]\" }}\n                {%- endif %}\n            {%- endfor %}\n            {{- \"[/AVAILABLE_TOOLS]\" }}\n            {%- endif %}\n        {%- if loop.last and system_message is defined %}\n            {{- \"[INST] \" + system_message + \"\\n\\n\" + message[\"content\"] + \"[/INST]\" }}\n        {%- else %}\n            {{- \"[INST] \" ~ message[\"content\"] ~ \"[/INST]\" }}\n        {%- endif %}\n    {%- elif message.tool_calls is defined and message.tool_calls is not none %}\n        {{- \"[TOOL_CALLS] [\" }}\n        {%- for tool_call in message.tool_calls %}\n            {%- set out = tool_call.function|tojson %}\n            {{- out[:-1] }}\n            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}\n                {{- raise_exception(\"Tool call IDs should be alphanumeric strings with length 9!\") }}\n            {%- endif %}\n            {{- ', \"id\": \"' + tool_call.id + '\"}' }}\n            {%- if not loop.last %}\n                {{- \", \" }}\n            {%- else %}\n                {{- \"]\" + eos_token }}\n            {%- endif %}\n        {%- endfor %}\n    {%- elif message[\"role\"] == \"assistant\" %}\n        {{- \" \" + message[\"content\"]|trim + eos_token}}\n    {%- elif message[\"role\"] == \"tool_results\" or message[\"role\"] == \"tool\" %}\n        {%- if message.content is defined and message.content.content is defined %}\n            {%- set content = message.content.content %}\n        {%- else %}\n            {%- set content = message.content %}\n        {%- endif %}\n        {{- '[TOOL_RESULTS] {\"content\": ' + content|string + \", \" }}\n        {{- '\"call_id\": \"' + message.tool_call_id + '\"}[/TOOL_RESULTS]' }}\n    {%- else %}\n        {{- raise_exception(\"Only user and assistant roles are supported, with the exception of an initial optional system message!\") }}\n    {%- endif %}\n{%- endfor %}\n",
    "gemma": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
    "phi3": "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    "zephyr": "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "llama2": "{% if messages and messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "qwen25": "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- if messages[0]['role'] == 'system' %}\n        {{- messages[0]['content'] }}\n    {%- else %}\n        {{- 'You are helpful.' }}\n    {%- endif %}\n    {{- \"\\n\\n# Tools\\n<tools>\" }}\n    {%- for tool in tools %}\n        {{- \"\\n\" }}\n        {{- tool | tojson }}\n    {%- endfor %}\n    {{- \"\\n</tools><|im_end|>\\n\" }}\n{%- endif %}\n{%- for message in messages %}\n    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) or (message.role == \"assistant\" and not message.tool_calls) %}\n        {{- '<|im_start|>' + message.role + '\\n' + message.content|string + '<|im_end|>' + '\\n' }}\n    {%- elif message.role == \"assistant\" %}\n        {{- '<|im_start|>' + message.role }}\n        {%- for tool_call in message.tool_calls %}\n            {%- if tool_call.function is defined %}\n                {%- set tool_call = tool_call.function %}\n            {%- endif %}\n            {{- '\\n<tool_call>\\n{\"name\": \"' }}\n            {{- tool_call.name }}\n            {{- '\", \"arguments\": ' }}\n            {{- tool_call.arguments | tojson(indent=2) }}\n            {{- '}\\n</tool_call>' }}\n        {%- endfor %}\n        {{- '<|im_end|>\\n' }}\n    {%- elif message.role == \"tool\" %}\n        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != \"tool\") %}{{- '<|im_start|>user' }}{%- endif %}\n        {{- '\\n<tool_response>\\n' }}\n        {{- message.content }}\n        {{- '\\n</tool_response>' }}\n        {%- if loop.last or (messages[loop.index0 + 1].role != \"tool\") %}\n            {{- '<|im_end|>\\n' }}\n        {%- endif %}\n    {%- endif %}\n{%- endfor %}",
}
TEMPLATES["features"] = r"""{# a comment
of two lines #}
  {% macro show(x, sep=', ') %}
[{% for i in x %}{{ i }}{{ sep if not loop.last }}{% endfor %}]
  {%- endmacro %}
{{ show([1, 2.50, true, none, 'a"\'b', (1,), {'k': [1e100]}]) }}{{ show('añ😀', sep='|') }}
{% set ns = namespace(n=0, last=none) -%}
{% for k, v in {'b': 1, 'a': 2}|dictsort %}{% set ns.n = ns.n + v %}{{ k ~ loop.index ~ loop.revindex0 }}{% else %}none{% endfor %}={{ ns.n }}
{%+ if true %} kept {% endif +%}
{% for i in range(10) if i is odd %}{% if i == 7 %}{% break %}{% endif %}{% if i == 3 %}{% continue %}{% endif %}{{ i }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}
{{ 'abcdef'[1:-1:2] ~ 'abc'[::-1] ~ [1,2,3][-2:] ~ [1,2,3][5:] ~ 'x'*3 ~ [0]*2 }} {{ 7//2 }} {{ -7//2 }} {{ -7 % 3 }} {{ 2**10 }} {{ 7/2 }} {{ 1 == 1.0 }} {{ 'a' in 'cat' and 'z' not in ['a'] }}
{{ ' x '|trim }}|{{ 'aXbX'|replace('X','-') }}|{{ 'Hello World'.split(' ')|join('+') }}|{{ 'a,b,,c'.split(',', 1) }}|{{ ' a  b '.split() }}|{{ 'ß straße'|upper }}|{{ 'ÀÉ'.lower() }}|{{ 'hello wOrld'.title() }}|{{ 'hELLO'|capitalize }}
{{ messages|map(attribute='role')|unique|list }} {{ messages|rejectattr('role', 'in', ['user','tool'])|list|length }} {{ [3,1,2]|sort }} {{ ['b','A']|sort }} {{ [1,2]|sum }} {{ [1,5,3]|max }} {{ '42'|int + 1 }} {{ 'x'|int(7) }} {{ 3.7|round }} {{ 3.14159|round(2) }}
{{ undefined_name|default('dflt') }} {{ ''|default('e', true) }} {{ undefined_name is defined }} {{ none is none }} {{ {} is mapping }} {{ 'a' is string }} {{ 3 is divisibleby 3 }} {{ [] is iterable }}
{% set block | upper %}
some text {{ 1 }}
{% endset %}{{ block }}{% filter replace('o', '0') %}foo boo{% endfilter %}
{% call(y) wrap() %}<{{ y }}>{% endcall %}
{% macro wrap() %}({{ caller(5) if caller is defined else 'no caller' }}){% endmacro %}
{{ wrap() }} {% call(y) wrap() %}<{{ y }}>{% endcall %}

{% raw %}{{ not a tag }}{% endraw %} {{ 'line1\nline2\n\nline4'|indent(2) }} {{ {'a': [1, 'x', {'é': none}]}|tojson }} {{ {'b':1,'a':[]}|tojson(indent=2, sort_keys=true) }} {{ '<&>'|e }} {{ "\u00e9\x41" }}
{% with a = 1, b = 'z' %}{{ a }}{{ b }}{% endwith %}{% generation %}gen{% endgeneration %}{% if messages and messages[0].get('nope', 'dflt') == 'dflt' %}got{% endif %} {{ 'prefix-x'.removeprefix('prefix-') }} {{ 'a-b'.find('-') }} {{ 'abc'.startswith(('x', 'a')) }} {{ ['a','b']|first }} {{ 'xyz'|last }} {{ 1 if false }} {{ not 0 }} {{ 1 < 2 < 3 }} {{ (1, 'a') }} {{ -3|abs }} {{ 1e16 }} {{ 123456789.125 }} {{ 0.0001 }} {{ 0.00001 }}"""
TEMPLATES["features"] = TEMPLATES["features"].replace("{% call(y) wrap() %}<{{ y }}>{% endcall %}\n{% macro", "{% macro", 1)
SPECIALS = {"bos_token": "<s>", "eos_token": "</s>"}


def render_all(name, template, specials, where):
    for number, chat in enumerate(CHATS):
        for prompt in (False, True):
            for tools in (None, TOOLS):
                case = {"name": name, "template": template, "specials": specials, "chat": number, "prompt": prompt, "tools": tools is not None, "text": None, "error": None}
                try:
                    case["text"] = render_jinja_template([chat], tools=tools, chat_template=template, add_generation_prompt=prompt, **specials)[0][0]
                except Exception as error:
                    case["error"] = type(error).__name__ + ": " + str(error)
                where.append(case)


def write(path, where):
    templates = {c["name"]: c["template"] for c in where}
    path.write_text(json.dumps({"chats": CHATS, "tools": TOOLS, "templates": templates, "cases": [{k: v for k, v in c.items() if k != "template"} for c in where]}, ensure_ascii=True, indent=0))
    print(path, len(where), "chats,", sum(c["error"] is not None for c in where), "refused;", sorted({c["name"] + " " + c["error"][:90] for c in where if c["error"]}))


rendered = []
for name, template in TEMPLATES.items():
    render_all(name, template, SPECIALS, rendered)
write(out / "chats.json", rendered)
local = []
for folder in map(Path, sys.argv[2:]):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    file = folder / "chat_template.jinja"
    template = file.read_text() if file.exists() else config.get("chat_template")
    if template:
        specials = {k: config[k] for k in ("bos_token", "eos_token", "pad_token", "unk_token") if isinstance(config.get(k), str)}
        render_all(str(folder), template, specials, local)
if local:
    write(Path("chat_local.json"), local)
