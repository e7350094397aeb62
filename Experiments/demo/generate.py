# Writes the demo's corpora (general, medical, legal) and its two probes from the templates beside it.
# The data are committed; this script shows where every line comes from and checks that nothing leaks.
"""Usage: python3 generate.py            writes data/
       python3 generate.py --check    verifies sizes, template counts, leaks, duplicates and the files

Python 3.9 or later, standard library only. The same sources always give the same bytes."""

import hashlib
import json
import pathlib
import random
import re
import sys

import probes
from grammar import Tables, Writer, read_templates

HERE = pathlib.Path(__file__).resolve().parent
SPLITS = ("train", "valid", "test")
# Bytes of text per split; the contract is train >= 300 KB, valid 20-30 KB, test 40-60 KB.
TARGET = {"train": 350_000, "valid": 25_000, "test": 50_000}
RANGE = {"train": (307_200, 400_000), "valid": (20_000, 30_000), "test": (40_000, 60_000)}
WORDS = (60, 400)
RUN = 13          # a run is this many words in lower case, punctuation dropped
LEAKED = 0.20     # a document leaks when this share of its runs stands in an earlier split
MIN_TEMPLATES = 150

# name: (weight, slots shared by the whole document, slot whose drug the document follows, steps);
# a step is (kind, least, most passages). Weights keep the use of the templates about equal.
PLANS = {
  "general": {
    "story": (13, "hero friend town place keepsake season job animal", None,
              [("story_open", 1, 1), ("story_mid", 2, 4), ("story_close", 1, 1)]),
    "nature": (5, "town place season animal", None, [("nature", 2, 4)]),
    "howto": (5, "hero friend town dish craft", None, [("howto", 2, 4)]),
    "travel": (7, "hero friend town place season", None, [("travel", 2, 3)]),
    "history": (6, "town invention place season job", None, [("history", 2, 4)]),
    "science": (7, "idea", None, [("science", 2, 4)]),
    "talk": (6, "hero friend town place season", None, [("talk", 2, 3)]),
  },
  "medical": {
    "case": (15, "patient doctor condition drug ward job allergy relation", "condition",
             [("case_open", 1, 1), ("case_find", 1, 2), ("case_plan", 1, 2)]),
    "chapter": (8, "condition drug", "condition", [("condition", 2, 4), ("drug", 1, 2)]),
    "monograph": (11, "drug", None, [("drug", 2, 5)]),
    "procedure": (6, "procedure", None, [("procedure", 2, 3)]),
    "lab": (5, "lab doctor", None, [("lab", 2, 4)]),
    "anatomy": (5, "structure", None, [("anatomy", 2, 4)]),
    "organism": (5, "organism doctor town", None, [("organism", 2, 4)]),
  },
  "legal": {
    "opinion": (15, "plaintiff defendant court judge doctrine state", None,
                [("opinion_open", 1, 1), ("opinion_facts", 1, 1), ("opinion_reason", 1, 3),
                 ("opinion_holding", 1, 1)]),
    "contract": (9, "agreement partyA partyB town state", None,
                 [("contract_open", 1, 1), ("contract", 2, 5)]),
    "statute": (5, "statute partyA", None, [("statute", 2, 4)]),
    "crime": (5, "crime accused state town", None, [("crime", 2, 4)]),
    "motion": (5, "motion plaintiff defendant judge", None, [("motion", 2, 4)]),
    "concept": (5, "concept", None, [("concept", 2, 4)]),
  },
}


def partition(kinds):
  """Divides the templates of each kind among the splits (about 80 / 8 / 12), by hash of their text."""
  parts = {split: {} for split in SPLITS}
  for kind, templates in kinds.items():
    order = sorted(templates, key=lambda text: hashlib.sha256(text.encode()).digest())
    test, valid = max(2, round(0.12 * len(order))), max(2, round(0.08 * len(order)))
    parts["test"][kind] = order[:test]
    parts["valid"][kind] = order[test:test + valid]
    parts["train"][kind] = order[test + valid:]
  return parts


def document(writer, plan, templates):
  """One document after `plan`, or None where the passages at hand are too short or too long."""
  _, shared, follows, steps = plan
  writer.begin(shared.split())
  if follows:
    writer.bind("drug", "drug", writer.cell(follows, "drug"))
  passages, used = [], set()
  for kind, least, most in steps:
    for _ in range(min(len(templates[kind]), writer.random.randint(least, most))):
      template = writer.deal("template " + kind, templates[kind])
      if template not in used:
        used.add(template)
        passages.append(writer.passage(template))
  text = "\n\n".join(passages)
  return text if WORDS[0] <= len(text.split()) <= WORDS[1] else None


def corpus(domain, split, tables, templates):
  """The documents of one split, up to the target size, none twice."""
  writer = Writer(tables, split, f"{domain}/{split}/1")
  plans = [plan for plan in PLANS[domain].values() for _ in range(plan[0])]
  documents, seen, size = [], set(), 0
  while size < TARGET[split]:
    text = document(writer, writer.deal("plan", plans), templates)
    if text and text not in seen:
      seen.add(text)
      documents.append(text)
      size += len(text.encode())
    else:
      writer.undo()
  return documents


def build():
  """Everything the data folder holds, as {relative path: rows}, the partition and the tables."""
  files, parts, tables = {}, {}, {}
  for domain in PLANS:
    folder = HERE / "templates"
    tables[domain] = Tables([folder / "common_terms.txt", folder / f"{domain}_terms.txt"])
    parts[domain] = partition(read_templates(folder / f"{domain}.txt"))
    for split in SPLITS:
      texts = corpus(domain, split, tables[domain], parts[domain][split])
      files[f"{domain}/{split}.jsonl"] = [{"text": text} for text in texts]
  files["pairs.jsonl"] = probes.pairs(random.Random("pairs"))
  train = [row["text"] for row in files["medical/train.jsonl"]]
  files["medical_choice.jsonl"] = probes.medical_choice(tables["medical"], train, random.Random("choice"))
  return files, parts, tables


def encoded(rows):
  """The rows as JSON lines, without what only the check needs (keys that begin with "_")."""
  public = [{key: value for key, value in row.items() if key[0] != "_"} for row in rows]
  return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in public).encode()


def runs(text):
  """The 13-word runs of a text; a shorter text is one run."""
  words = re.sub(r"[^\w\s]", "", text.lower()).split()
  return [tuple(words[i:i + RUN]) for i in range(max(1, len(words) - RUN + 1))]


def leaked(texts, against):
  """How many of `texts` share a fifth of their runs with the documents of `against`."""
  known = {run for text in against for run in runs(text)}
  shares = [sum(run in known for run in own) / len(own) for own in map(runs, texts)]
  return sum(share >= LEAKED for share in shares), max(shares)


def check_text(name, texts):
  """Slips of grammar and layout that a template can cause."""
  slips = {"unfilled slot": r"[{}\[\]|\\]", "doubled word": r"\b(the|a|an|of|to|is|in|and) \1\b",
           "doubled space": r"  ", "doubled mark": r",,|\.\.|;;|, \.|\?\.",
           "wrong article": r"\b[Aa] [aeio][a-z](?<!\ba on)(?<!\ba eu)|\b[Aa]n [bcdfgjklpqtvwz][a-z]"
                            r"|\b[Aa] (?:8\d?|11|18)\b(?!\.)",
           "small letter after a full stop": r"(?<!\bv)(?<!\bDr)(?<!\bNo)(?<!\bp)(?<!\bm)[.?!] [a-z]"}
  for what, pattern in slips.items():
    for text in texts:
      found = re.search(pattern, text)
      if found:
        yield f"{name}: {what}: ...{text[max(0, found.start() - 40):found.end() + 40]!r}..."
        break


def check(files, parts, tables):
  """Every mistake found, each as one line; prints the figures on the way."""
  wrong = []
  for domain in PLANS:
    counts = {split: sum(map(len, parts[domain][split].values())) for split in SPLITS}
    distinct = {text for kinds in parts[domain].values() for texts in kinds.values() for text in texts}
    print(f"{domain}: {len(distinct)} templates " + str(counts))
    if len(distinct) != sum(counts.values()):
      wrong.append(f"{domain}: a template stands twice")
    if len(distinct) < MIN_TEMPLATES:
      wrong.append(f"{domain}: {len(distinct)} templates, at least {MIN_TEMPLATES} wanted")
    texts = {split: [row["text"] for row in files[f"{domain}/{split}.jsonl"]] for split in SPLITS}
    lowered = [text.lower() for text in texts["train"]]
    for split in SPLITS:
      size = sum(len(text.encode()) for text in texts[split])
      words = [len(text.split()) for text in texts[split]]
      print(f"  {split}: {len(words)} documents, {size:,} bytes of text, "
            f"{min(words)} to {max(words)} words each")
      if not RANGE[split][0] <= size <= RANGE[split][1]:
        wrong.append(f"{domain}/{split}: {size} bytes, not within {RANGE[split]}")
      if min(words) < WORDS[0] or max(words) > WORDS[1]:
        wrong.append(f"{domain}/{split}: a document has fewer than {WORDS[0]} or more than {WORDS[1]} words")
      wrong += check_text(f"{domain}/{split}", texts[split])
    for table, rows in tables[domain].rows.items():
      if len(tables[domain].columns[table]) > 1:
        lacking = [row["name"] for row in rows if not any(row["name"].lower() in text for text in lowered)]
        wrong += [f"{domain}: no train document mentions the {table} {name!r}" for name in lacking]
    for held, against in (("valid", "train"), ("test", "train"), ("test", "valid")):
      count, share = leaked(texts[held], texts[against])
      print(f"  {held} leaked from {against}: {count} (largest share of common runs {share:.3f})")
      if count:
        wrong.append(f"{domain}: {count} documents of {held} leak from {against}")
  everything = [row["text"] for name, rows in files.items() if "/" in name for row in rows]
  duplicates = len(everything) - len({" ".join(runs_key(text)) for text in everything})
  print(f"exact duplicates over all documents: {duplicates}")
  if duplicates:
    wrong.append(f"{duplicates} documents stand twice")
  train = [row["text"] for domain in PLANS for row in files[f"{domain}/train.jsonl"]]
  wrong += probes.check(files["pairs.jsonl"], files["medical_choice.jsonl"], train)
  for name, rows in files.items():
    path = HERE / "data" / name
    if not path.exists() or path.read_bytes() != encoded(rows):
      wrong.append(f"data/{name} is not what the generator writes")
  return wrong


def runs_key(text):
  return re.sub(r"[^\w\s]", "", text.lower()).split()


def main(arguments):
  if arguments not in ([], ["--check"]):
    print(__doc__)
    return 64
  files, parts, tables = build()
  if not arguments:
    for name, rows in files.items():
      path = HERE / "data" / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(encoded(rows))
  wrong = check(files, parts, tables)
  for line in wrong:
    print("WRONG " + line)
  print("check: " + (f"{len(wrong)} mistakes" if wrong else "all is well"))
  return 1 if wrong else 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
