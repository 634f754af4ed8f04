"""Renders chat templates by this project and by jinja2 and compares. By hand; nothing here runs in the tests.
usage: check_templates.py RENDER_LINES chats TEMPLATE.jinja|TOKENIZER_FOLDER...   (RENDER_LINES: build/tests/render_lines)
       check_templates.py RENDER_LINES sweep                                      (template_sweep.py's expressions)
       check_templates.py RENDER_LINES expressions FILE                           (one expression or template a line)
Equal texts, or both without one, are right; a text beside another or beside an error is wrong and is shown."""
import collections
import json
import subprocess
import sys
from pathlib import Path

import template_chats
from template_oracle import compiled, render


def ask(program, lines):
    run = subprocess.run([program], input="\n".join(json.dumps(line) for line in lines) + "\n", capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.split("\n") if line]


class Count:
    def __init__(self):
        self.totals = collections.Counter()
        self.shown = 0
        self.refused = collections.Counter()

    def add(self, label, wanted, error, got):
        if error is None and "text" in got:
            verdict = "equal" if got["text"] == wanted else "OTHER"
        elif error is None:
            verdict = "refused by us"
            self.refused[got["error"][-110:]] += 1
        else:
            verdict = "both refuse" if "text" not in got else "RENDERED"
        self.totals[verdict] += 1
        if verdict in ("OTHER", "RENDERED") and self.shown < 40:
            self.shown += 1
            print(verdict, label, "\n  wanted", repr(wanted if error is None else error)[:300], "\n  got   ", repr(got.get("text"))[:300])
        return verdict


def sources(names):
    for name in map(Path, names):
        if name.is_dir():
            file, config = name / "chat_template.jinja", json.loads((name / "tokenizer_config.json").read_text())
            text = file.read_text() if file.exists() else config.get("chat_template")
            if text:
                yield name.name, text
        else:
            yield name.name, name.read_text()


def check_chats(program, names):
    count = Count()
    for name, source in sources(names):
        template, mine = compiled(source), Count()
        labels, wants, lines = [], [], []
        for label, request in template_chats.requests():
            request = {**request, "config": template_chats.CONFIG}
            labels.append(f"{name}: {label}")
            wants.append(render(template, request))
            lines.append(request if lines else {**request, "template": source})
        mine.shown = count.shown
        for label, (text, error), got in zip(labels, wants, ask(program, lines)):
            mine.add(label, text, error, got)
        count.shown = mine.shown
        count.totals += mine.totals
        if set(mine.totals) - {"equal", "both refuse"} or isinstance(template, Exception):
            print(name, dict(mine.totals), mine.refused.most_common(3), template if isinstance(template, Exception) else "")
    print("total", sum(count.totals.values()), dict(count.totals))


def check_lines(program, lines, variables):
    count = Count()
    requests = [{"template": line, "variables": variables} for line in lines]
    for request, got in zip(requests, ask(program, requests)):
        text, error = render(compiled(request["template"]), request)
        if text is not None and " at 0x" in text:  # an object's address
            text, error = None, Exception("an address")
        count.add(request["template"], text, error, got)
    print("total", sum(count.totals.values()), dict(count.totals))
    for reason, times in count.refused.most_common(60):
        print(f"{times:5} {reason}")


if __name__ == "__main__":
    program, mode, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
    if mode == "chats":
        check_chats(program, rest)
    elif mode == "sweep":
        import template_sweep
        check_lines(program, template_sweep.lines(), template_sweep.VARIABLES)
    else:
        lines = [line if "{" in line else "{{ " + line + " }}" for line in Path(rest[0]).read_text().split("\n") if line]
        check_lines(program, lines, {})
