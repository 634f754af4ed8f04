"""Task items made of the demo text, and lm-eval's answers to them.

usage: make_tasks.py golden                                    writes tests/golden/tasks/ (24 items a task, demo models)
       make_tasks.py published                                 writes tests/golden/tasks/published/: the data sets' own schemas
       make_tasks.py check QWB_EVAL MODEL ITEMS [--shots N]    compares qwb-eval with lm-eval item by item on MODEL
Every schema that qwb-eval knows: LAMBADA-like passages whose last word is asked for, HellaSwag-like and PIQA-like continuations
where the wrong ones come from other places of the text, ARC-like and BoolQ-like questions, WinoGrande-like blanks. Needs lm_eval,
torch, transformers. check exits 1 if fewer than 99.5 % of the answers of a task are the same.
"""
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("hellaswag", "arc_easy", "piqa", "winogrande", "lambada_openai", "boolq")


def sentences():
    text = (ROOT / "recipes/demo/text/eval.txt").read_text(encoding="utf-8")
    flat = re.sub(r"\s+", " ", text)
    return [s.strip() for s in re.split(r"(?<=[.;!?])\s+", flat) if 40 < len(s) < 240]


def make_items(count):
    rng, all_sentences = random.Random(5), sentences()
    items = {task: [] for task in TASKS}
    for i in range(count):
        k = rng.randrange(len(all_sentences) - 8)
        here = all_sentences[k:k + 3]
        words = here[1].split(" ")
        cut = max(2, len(words) // 2)
        begin, end = " ".join(words[:cut]), " ".join(words[cut:])
        others = []
        for _ in range(3):
            w = all_sentences[rng.randrange(len(all_sentences))].split(" ")
            others.append(" ".join(w[len(w) // 2:]))
        label = rng.randrange(4)
        endings = others[:label] + [end] + others[label:]
        marked = [("[step] " if i % 7 == 0 else "") + e + (" [title] More" if i % 5 == 0 else "") for e in endings]
        items["hellaswag"].append({"ind": i, "activity_label": "Reading" if i % 2 else "R\u00e9sum\u00e9 [header]", "ctx_a": here[0],
                                   "ctx_b": begin, "ctx": here[0] + " " + begin, "endings": marked, "label": label if i % 2 else str(label)})
        labels = ["A", "B", "C", "D"] if i % 3 else ["1", "2", "3", "4"]
        items["arc_easy"].append({"id": str(i), "question": f"How does this go on: {begin}", "choices": {"text": endings, "label": labels},
                                  "answerKey": labels[label]})
        items["piqa"].append({"goal": f"Finish the sentence \u201c{begin}\u201d", "sol1": end if i % 2 else others[0],
                              "sol2": others[0] if i % 2 else end, "label": 1 - i % 2})
        items["lambada_openai"].append({"text": " ".join(here[:2]).rstrip(".;!?,\"' ")})
        names = rng.sample(["Anne", "Mary", "Charles", "Louisa", "the captain", "Sir Walter"], 2)
        items["winogrande"].append({"sentence": f"{here[0]} {names[0]} met {names[1]}, and _ {end}", "option1": names[0],
                                    "option2": names[1], "answer": str(1 + rng.randrange(2))})
        items["boolq"].append({"passage": " ".join(here), "question": f"does the text say {end.rstrip('.?!').lower()}"[:120], "label": i % 2})
    return items


def write_items(items, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for task, lines in items.items():
        (folder / f"{task}.jsonl").write_text("".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines), encoding="utf-8")


def configuration(task, file):
    from lm_eval.tasks.hellaswag import utils
    from lm_eval.tasks.winogrande import preprocess_winogrande as w
    metrics = [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "acc_norm")]
    base = {"task": task, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(file)}}, "test_split": "test",
            "fewshot_split": "test", "output_type": "multiple_choice", "metric_list": metrics}
    special = {
        "hellaswag": {"process_docs": utils.process_docs, "doc_to_text": "{{query}}", "doc_to_target": "{{label}}", "doc_to_choice": "choices"},
        "arc_easy": {"doc_to_text": "Question: {{question}}\nAnswer:", "doc_to_target": "{{choices.label.index(answerKey)}}",
                     "doc_to_choice": "{{choices.text}}"},
        "piqa": {"doc_to_text": "Question: {{goal}}\nAnswer:", "doc_to_target": "label", "doc_to_choice": "{{[sol1, sol2]}}"},
        "winogrande": {"doc_to_text": w.doc_to_text, "doc_to_target": w.doc_to_target, "doc_to_choice": w.doc_to_choice,
                       "metric_list": metrics[:1]},
        "lambada_openai": {"output_type": "loglikelihood", "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
                           "doc_to_target": "{{' '+text.split(' ')[-1]}}",
                           "metric_list": [{"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}] + metrics[:1]},
        "boolq": {"doc_to_text": "{{passage}}\nQuestion: {{question}}?\nAnswer:", "doc_to_target": "label", "doc_to_choice": ["no", "yes"],
                  "metric_list": metrics[:1]},
    }
    return {**base, **special[task]}


def uniform(file):
    """The datasets library wants one type per column: numbers as text, in a copy."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    copy = file.with_suffix(".uniform.jsonl")
    if "endings" in lines[0]:
        for line in lines:
            line["label"] = str(line["label"])
    copy.write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    return copy


def lm_eval_answers(model, folder, shots):
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM
    torch.set_num_threads(1)
    lm = HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=1)
    answers = {}
    for task in TASKS:
        copy = uniform(folder / f"{task}.jsonl")
        out = lm_eval.simple_evaluate(model=lm, tasks=[configuration(task, copy)], num_fewshot=shots, log_samples=True, bootstrap_iters=0)
        copy.unlink()
        samples = sorted(out["samples"][task], key=lambda s: s["doc_id"])
        rows = []
        for s in samples:
            pairs = [r[0] if isinstance(r[0], (list, tuple)) else r for r in s["resps"]]
            numbers = [float(p[0]) for p in pairs]
            if task == "lambada_openai":
                numbers.append(1.0 if str(pairs[0][1]) == "True" else 0.0)
            rows.append(numbers)
        results = out["results"][task]
        answers[task] = {"acc": results["acc,none"], "acc_norm": results.get("acc_norm,none"), "perplexity": results.get("perplexity,none"),
                         "answers": rows}
    return answers


def golden():
    folder = ROOT / "tests/golden/tasks"
    write_items(make_items(24), folder)
    expected = {}
    for model in ("llama", "gpt2"):
        for shots in (2,) if model == "llama" else (0,):
            expected[f"{model} {shots}"] = lm_eval_answers(ROOT / "recipes/demo" / model, folder, shots)
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


def published_items():
    """Items of our own in the fields, types and spellings that the data sets are published with: file -> (task, lines)."""
    hellaswag = [
        {"ind": 24, "activity_label": "Painting a fence", "ctx_a": "A woman stands before a fence.", "ctx_b": "she",
         "ctx": "A woman stands before a fence. she", "endings": ["swims across it.", "is folding the lawn.",
         "is the fence's wood.", "dips a brush into the paint."], "source_id": "activitynet~v_1", "split": "val",
         "split_type": "indomain", "label": "3"},
        {"ind": 18, "activity_label": "Health", "ctx_a": "[header] How to keep  a bird [title] Find a cage. [step] Birds need room [sic] to fly.",
         "ctx_b": "", "ctx": "[header] How to keep  a bird", "endings": ["[substeps] Buy the largest one. [title] Feed it.", "Sell it [ and go",
         " Leave it  open.", "\u00c9tude [step] for a caf\u00e9."], "source_id": "wikihow~1", "split": "val", "split_type": "zeroshot", "label": "0"}]
    hub_arc = [
        {"id": "MCAS_1", "question": "Which of these is made by bees?", "choices": {"text": ["honey",
         "glass", "iron ore", "rain"], "label": ["A", "B", "C", "D"]}, "answerKey": "A"},
        {"id": "NYSEDREGENTS_2", "question": "Which one flows?", "choices": {"text": ["apple", "cloud", "stone", "river"],
         "label": ["1", "2", "3", "4"]}, "answerKey": "4"},
        {"id": "AKDE_3", "question": "How many?", "choices": {"text": ["one", "two", "three"], "label": ["A", "B", "C"]}, "answerKey": "C"},
        {"id": "X_5", "question": "Which letter is fifth?", "choices": {"text": ["a", "b", "c", "d", "e"], "label": ["A", "B", "C", "D", "E"]},
         "answerKey": "E"}]
    piqa = [{"goal": "To keep soup warm, it's best to", "sol1": "put it into a fridge", "sol2": "put a lid on it"},
            {"goal": "what do you do with a \"wet\" floor?", "sol1": "mop it dry.", "sol2": "water it."},
            {"goal": "To dry a coat", "sol1": "hang it", "sol2": "fold it"}]
    winogrande = [{"qID": "AB-2", "sentence": "Anna ran much faster than Berta so _ came home later.",
                   "option1": "Anna", "option2": "Berta", "answer": "2"},
                  {"qID": "x-1", "sentence": "They took the sofa, not the chair, since the _ was soft.", "option1": "sofa", "option2": "chair",
                   "answer": "1"}]
    lambada = [{"text": "he opened the drawer , and there lay the key to the old drawer"},
               {"text": "\u201cWait here and I'll bring the boat.\u201d She'd said it twice.\n\n\u201cWe won't need it.\u201d\n\n"
                        "He looked at the water and then, slowly, at the boat"}]
    boolq = [{"question": "does every lake freeze in winter", "title": "Lake", "answer": True,
              "passage": "Lakes of this country freeze in winter."},
             {"question": "is the moon a star", "answer": False, "passage": "The Moon is Earth's only natural satellite. \u2014 1.3 light-seconds"}]
    return {"hellaswag.hub.jsonl": ("hellaswag", hellaswag),
            "hellaswag_val.jsonl": ("hellaswag", [{**d, "label": int(d["label"])} for d in hellaswag]),
            "arc.hub.jsonl": ("arc_easy", hub_arc),
            "ARC-Easy-Test.jsonl": ("arc_easy", [{"id": d["id"], "answerKey": d["answerKey"], "question": {"stem": d["question"], "choices": [
                {"text": t, "label": n} for t, n in zip(d["choices"]["text"], d["choices"]["label"])]}} for d in hub_arc]),
            "piqa.hub.jsonl": ("piqa", [{**d, "label": n} for d, n in zip(piqa, (1, 0, 0))]),
            "piqa_valid.jsonl": ("piqa", piqa),
            "winogrande_dev.jsonl": ("winogrande", winogrande),
            "lambada.hub.jsonl": ("lambada_openai", lambada),
            "boolq.hub.jsonl": ("boolq", boolq),
            "boolq_superglue.jsonl": ("boolq", [{"question": d["question"], "passage": d["passage"], "idx": i, "label": int(d["answer"])}
                                                for i, d in enumerate(boolq)]),
            "boolq_superglue_own.jsonl": ("boolq", [{"question": d["question"], "passage": d["passage"], "idx": i, "label": d["answer"]}
                                                    for i, d in enumerate(boolq)])}


def published():
    """What lm-eval asks of each file, after it was brought into the form that lm-eval's own task reads."""
    from lm_eval.api.task import ConfigurableTask
    folder, scratch, expected = ROOT / "tests/golden/tasks/published", Path(tempfile.mkdtemp()), {}
    folder.mkdir(parents=True, exist_ok=True)
    items = published_items()
    (folder / "piqa_valid-labels.lst").write_text("1\n0\n0\n")
    for name, (task, lines) in items.items():
        (folder / name).write_text("".join(json.dumps(x) + "\n" for x in lines))
        hub = {"hellaswag": "hellaswag.hub.jsonl", "arc_easy": "arc.hub.jsonl", "piqa": "piqa.hub.jsonl", "boolq": "boolq_superglue.jsonl"}
        form = items[hub.get(task, name)][1]
        (scratch / name).write_text("".join(json.dumps(x) + "\n" for x in form))
        asked = ConfigurableTask(config=configuration(task, scratch / name))
        asked.build_all_requests()
        rows = [{"requests": [], "gold": asked.doc_to_target(doc)} for doc in asked.test_docs()]
        for instance in asked.instances:
            rows[instance.doc_id]["requests"].append(list(instance.args))
        if task == "winogrande":  # lm-eval calls the context target there
            rows = [{**row, "gold": asked.doc_to_text(doc)} for row, doc in zip(rows, asked.test_docs())]
        if task == "lambada_openai":
            rows = [{**row, "gold": 0} for row in rows]
        expected[name] = {"task": task, "items": [{**row, "gold": int(row["gold"])} for row in rows]}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


def best(numbers):
    return max(range(len(numbers)), key=lambda i: (numbers[i], -i))


def check():
    program, model, count = sys.argv[2:5]
    shots = int(sys.argv[6]) if len(sys.argv) > 6 else 0
    folder, cache = Path(tempfile.mkdtemp()), tempfile.mkdtemp()
    write_items(make_items(int(count)), folder)
    flags = [f for task in TASKS for f in ("--task", f"{task}={folder}/{task}.jsonl,shots={shots}")]
    out = subprocess.run([program, model, *flags, "--json", "-q"], check=True, capture_output=True, text=True,
                         env={"QWB_CACHE": cache, "PATH": "/usr/bin:/bin"}).stdout
    records = {t["task"]: t for t in json.loads(out)["tasks"]}
    kept = {}
    for file in Path(cache).glob("results/**/result.json"):
        key = json.loads((file.parents[1] / "object.json").read_text())["key"]
        kept[key["task"]] = json.loads(file.read_text())["answers"]
    theirs = lm_eval_answers(model, folder, shots)
    failed = False
    for task in TASKS:
        expected, mine = theirs[task]["answers"], kept[task]
        last_word = task == "lambada_openai"
        pairs = list(zip(expected, mine))
        same = sum((e[1] == m[1]) if last_word else (best(e) == best(m)) for e, m in pairs)
        off = max(abs(x - y) for e, m in pairs for x, y in zip(e[:1] if last_word else e, m))
        failed |= same < 0.995 * len(pairs) or len(expected) != len(mine)
        norm = records[task]["acc_norm"]
        print(f"{task:15} {same} of {len(pairs)} the same, log-likelihoods within {off:.1e}; acc {theirs[task]['acc']:.4f} "
              f"{records[task]['acc']['value']:.4f}"
              + (f", acc_norm {theirs[task]['acc_norm']:.4f} {norm['value']:.4f}" if norm else "")
              + (f", perplexity {theirs[task]['perplexity']:.4f} {records[task]['perplexity']['value']:.4f}" if last_word else ""))
        for i, (e, m) in enumerate(pairs):
            if (e[1] != m[1]) if last_word else (best(e) != best(m)):
                print("   item", i, "theirs", e, "ours", m)
    sys.exit(failed)


{"golden": golden, "published": published, "check": check}[sys.argv[1]]()
