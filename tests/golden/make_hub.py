"""The golden tree of huggingface_hub, and interoperability both ways (oracle only; needs huggingface_hub and transformers).

    python tests/golden/make_hub.py BUILD_FOLDER [--check]

Serves a small repository from the fake Hub (BUILD_FOLDER/tests/fake_hub), lets huggingface_hub pull it and writes what it
left on disk to tests/golden/hub/tree.json, with which tests/hub/interoperability_test.cpp compares what qwb-pull leaves.
With --check nothing is written; the tree is compared, and then:
  - qwb-pull takes huggingface_hub's cache without a request for content, offline without any request;
  - huggingface_hub and transformers load qwb-pull's cache offline;
  - an interrupted pull of one is finished by the other, and both at once leave one right copy.
"""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
FILES = {  # what the test's FakeRepo holds as well
    "config.json": b'{"model_type": "llama"}\n',
    "tokenizer.json": b'{"version": "1.0"}\n',
    "model.safetensors": b"weights\n" * 20,
    "sub/deep/er.json": b"[]",
    "empty.txt": b"",
}


class Hub:
    """The fake Hub as a program."""

    def __init__(self, build, root, *more):
        self.process = subprocess.Popen(
            [str(build / "tests" / "fake_hub"), str(root), *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = self.process.stdout.readline().strip()

    def stop(self):
        self.process.stdin.close()
        return json.loads(self.process.stdout.read())


def environment(hub, home, **more):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    return clean | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
                    "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"} | more


def python(hub, home, code, **more):
    result = subprocess.run([sys.executable, "-c", code], env=environment(hub, home, **more), text=True,
                            capture_output=True)
    if result.returncode != 0:
        raise SystemExit(f"python failed:\n{code}\n{result.stderr}")
    return result.stdout.strip()


def qwb_pull(build, hub, home, *arguments, **more):
    result = subprocess.run([str(build / "bin" / "qwb-pull"), "-q", *arguments], env=environment(hub, home, **more),
                            text=True, capture_output=True)
    if result.returncode != 0:
        raise SystemExit(f"qwb-pull {arguments}: {result.returncode} {result.stderr}")
    return result.stdout.strip()


def tree(folder):
    """What is on disk, without what either side may have for itself: locks, kept lists, markers of absence."""
    entries = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink() or name.startswith((".locks/", ".qwb/")):
            continue
        if any(part in ("trees", ".no_exist", ".qwb") for part in path.relative_to(folder).parts):
            continue
        if path.is_symlink():
            entries[name] = {"link": os.readlink(path)}
        elif name == "CACHEDIR.TAG":
            entries[name] = {"begins": path.read_text()[:43]}
        else:
            entries[name] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return entries


def expect(condition, text):
    print("ok  " if condition else "FAIL", text)
    if not condition:
        raise SystemExit(1)


def golden(build, work):
    root = work / "root"
    for name, content in FILES.items():
        path = root / "models" / "org" / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    hub = Hub(build, root)
    python(hub, work / "golden", "import huggingface_hub as h; h.snapshot_download('org/model')")
    result = {"files": {name: content.decode() for name, content in FILES.items()}, "tree": tree(work / "golden" / "hub")}
    qwb_pull(build, hub, work / "ours", "org/model", "--include", "*")
    expect(tree(work / "ours" / "hub") == result["tree"], "qwb-pull leaves the same tree as huggingface_hub")
    hub.stop()
    return result


def both_ways(build, work):
    root = work / "demo_root"
    shutil.copytree(SOURCE / "recipes" / "demo" / "llama", root / "models" / "demo" / "llama")
    load = ("import transformers as t; m = t.AutoModelForCausalLM.from_pretrained('demo/llama'); "
            "k = t.AutoTokenizer.from_pretrained('demo/llama'); print(m.config.model_type, len(k('hello there').input_ids))")
    # Theirs, used by us.
    hub = Hub(build, root)
    theirs = python(hub, work / "a", "import huggingface_hub as h; print(h.snapshot_download('demo/llama'))")
    bytes_by_python = hub.stop()["bytes"]
    hub = Hub(build, root)
    expect(qwb_pull(build, hub, work / "a", "demo/llama") == theirs, "their snapshot is ours")
    seen = hub.stop()
    expect(seen["bytes"] == 0 and len(seen["requests"]) == 1, f"one request (what main is), no content: {seen['requests']}")
    expect(bytes_by_python > 0, "their pull was a pull")
    hub = Hub(build, root)
    qwb_pull(build, hub, work / "a", "demo/llama", HF_HUB_OFFLINE="1")
    inspect = subprocess.run([str(build / "bin" / "qwb-inspect"), "-q", "demo/llama"], env=environment(hub, work / "a"),
                             capture_output=True, text=True)
    expect(inspect.returncode == 0, "qwb-inspect takes their snapshot by name")
    expect(hub.stop()["requests"] == [], "and neither asks the Hub")
    # A cache that only transformers filled, file by file, without a list.
    hub = Hub(build, root)
    python(hub, work / "b", load)
    hub.stop()
    hub = Hub(build, root)
    subprocess.run([str(build / "bin" / "qwb-inspect"), "-q", "demo/llama"], env=environment(hub, work / "b"), check=True,
                   capture_output=True)
    expect(hub.stop()["requests"] == [], "what transformers loaded file by file, qwb-inspect takes without a request")
    # Ours, used by them.
    hub = Hub(build, root)
    ours = qwb_pull(build, hub, work / "c", "demo/llama")
    hub.stop()
    hub = Hub(build, root)
    offline = {"HF_HUB_OFFLINE": "1"}
    expect(python(hub, work / "c", load, **offline).startswith("llama "), "transformers loads our snapshot offline")
    got = python(hub, work / "c", "import huggingface_hub as h; print(h.snapshot_download('demo/llama', local_files_only=True))")
    expect(got == ours, "huggingface_hub finds our snapshot")
    size = python(hub, work / "c", "import huggingface_hub as h; c = h.scan_cache_dir(); print(len(c.warnings), "
                                   "[r.repo_id for r in c.repos], [list(r.refs) for r in c.repos])")
    expect(size == "0 ['demo/llama'] [['main']]", f"its scan of the cache has no complaint: {size}")
    expect(hub.stop()["requests"] == [], "without a request")
    hub = Hub(build, root)
    python(hub, work / "c", "import huggingface_hub as h; h.snapshot_download('demo/llama')")
    expect(hub.stop()["bytes"] == 0, "online huggingface_hub finds nothing to download either")
    # A gated one, by a token.
    hub = Hub(build, root, "--token", "hf_abc")
    qwb_pull(build, hub, work / "d", "demo/llama", HF_TOKEN="hf_abc")
    hub.stop()


def at_once(build, work):
    root = work / "slow_root"
    folder = root / "models" / "org" / "slow"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    content = os.urandom(12_000_000)
    (folder / "model.safetensors").write_bytes(content)
    code = "import huggingface_hub as h; h.snapshot_download('org/slow')"
    hub = Hub(build, root, "--rate", "3000000")
    pulls = [threading.Thread(target=python, args=(hub, work / "e", code)),
             threading.Thread(target=qwb_pull, args=(build, hub, work / "e", "org/slow", "--include", "*"))]
    for pull in pulls:
        pull.start()
    for pull in pulls:
        pull.join()
    seen = hub.stop()
    snapshot = next((work / "e" / "hub" / "models--org--slow" / "snapshots").iterdir())
    expect((snapshot / "model.safetensors").read_bytes() == content, "both at once: the content is right")
    expect(seen["bytes"] < 1.05 * len(content), f"and was sent once ({seen['bytes']} bytes)")
    # A killed qwb-pull is finished by huggingface_hub (anew: it resumes nobody's files), and the other way round.
    for first, second in (("qwb", "python"), ("python", "qwb")):
        home = work / ("f" + first)
        hub = Hub(build, root, "--rate", "3000000")
        command = ([str(build / "bin" / "qwb-pull"), "-q", "org/slow", "--include", "*"] if first == "qwb"
                   else [sys.executable, "-c", code])
        child = subprocess.Popen(command, env=environment(hub, home), stderr=subprocess.DEVNULL)
        try:
            child.wait(2.0 if first == "python" else 0.4)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if second == "python":
            python(hub, home, code)
        else:
            qwb_pull(build, hub, home, "org/slow", "--include", "*")
        hub.stop()
        snapshot = next((home / "hub" / "models--org--slow" / "snapshots").iterdir())
        expect((snapshot / "model.safetensors").read_bytes() == content, f"{second} finishes what {first} began")


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    target = HERE / "hub" / "tree.json"
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        result = golden(build, work)
        if "--check" not in sys.argv:
            target.parent.mkdir(exist_ok=True)
            target.write_text(json.dumps(result, indent=1) + "\n")
            return
        expect(json.loads(target.read_text()) == result, "the golden tree is what huggingface_hub makes")
        both_ways(build, work)
        at_once(build, work)
        import huggingface_hub
        import transformers
        print("huggingface_hub", huggingface_hub.__version__, "transformers", transformers.__version__)


main()
