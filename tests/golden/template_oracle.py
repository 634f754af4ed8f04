"""Chat templates as transformers renders them: the environment of transformers.utils.chat_template_utils, with a clock
that stands still. Needs jinja2 only; make_templates.py and check_templates.py use it."""
import datetime
import json

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2024, 7, 26, 8, 0, 0)
REASONING = ("reasoning_content", "thinking", "reasoning")


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_support"), [], [], body).set_lineno(lineno)

    @jinja2.pass_eval_context
    def _support(self, context, caller):
        return caller()


class TemplateDict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


class TemplateNamespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attrs = dict(*args, **kwargs)
        for name in attrs:
            TemplateNamespace.check(name)
        jinja2.utils.Namespace.__init__(self, attrs)

    def __setitem__(self, name, value):
        TemplateNamespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


ENVIRONMENT = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
ENVIRONMENT.filters["tojson"] = tojson
ENVIRONMENT.globals["raise_exception"] = raise_exception
ENVIRONMENT.globals["strftime_now"] = lambda format: NOW.strftime(format)
ENVIRONMENT.globals["dict"] = TemplateDict()
ENVIRONMENT.globals["namespace"] = TemplateNamespace


def normalized(messages):
    """Keys whose value is None are dropped (transformers 5.24, _normalize_chat_messages); then reasoning has all its names."""
    out = []
    for message in messages:
        message = {key: value for key, value in message.items() if value is not None} if isinstance(message, dict) else message
        reasoning = next((message[key] for key in REASONING if message.get(key) is not None), None)
        out.append({"thinking": reasoning, **message, "reasoning_content": reasoning} if reasoning is not None else message)
    return out


def render(template, request):
    """(text, None) or (None, error). `template` is compiled or the error of that."""
    if isinstance(template, Exception):
        return None, template
    try:
        return template.render(messages=normalized(request.get("messages", [])), tools=request.get("tools"), documents=None,
                               add_generation_prompt=request.get("add_generation_prompt", False),
                               **{**request.get("config", {}), **(request.get("variables") or {})}), None
    except Exception as error:
        return None, error


def compiled(source):
    try:
        return ENVIRONMENT.from_string(source)
    except Exception as error:
        return error
