"""Writes tests/golden/chat/templates.json: what jinja2, set up as transformers does, makes of template_sweep.py's
lines; null where it refuses. Needs jinja2 3.1.6 only. Of what is refused, every fourth is kept."""
import json
from pathlib import Path

import template_sweep
from template_oracle import compiled, render

kept, refused = [], 0
for line in template_sweep.lines():
    text, error = render(compiled(line), {"variables": template_sweep.VARIABLES})
    if text is not None and (" at 0x" in text or len(text) > 300 or "random" in line or "lipsum" in line):
        continue
    refused += text is None
    if text is not None or refused % 4 == 0:
        kept.append([line, text])
out = Path(__file__).parent / "chat" / "templates.json"
lines = ",\n".join(json.dumps(item, ensure_ascii=True, separators=(",", ":")) for item in kept)
out.write_text('{"variables":' + json.dumps(template_sweep.VARIABLES) + ',"cases":[\n' + lines + "\n]}\n")
print(out, len(kept), "cases,", out.stat().st_size, "bytes")
