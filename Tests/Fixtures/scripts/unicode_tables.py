"""Writes Sources/Corpus/UnicodeCategories.swift and UnicodeDecompositions.swift.

Every set is asked of the Hugging Face `tokenizers` library one code point at a time, so that the tables agree with the
library that made the vocabularies, whatever Unicode version its parts were built with. Run from the repository root:
python Tests/Fixtures/scripts/unicode_tables.py (needs: pip install tokenizers)
"""
import sys
import textwrap
import unicodedata
from tokenizers import Regex, __version__, normalizers as n, pre_tokenizers as p

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, POINTS))


def matched(splitter, text=TEXT):
    """Code points that a removing pre-tokenizer removes from the text of all code points."""
    kept = set()
    for _, (start, end) in splitter.pre_tokenize_str(text):
        kept.update(range(start, end))
    return [POINTS[i] for i in range(len(text)) if i not in kept]


def regex(pattern):
    return matched(p.Split(Regex(pattern), "removed"))


def removed(normalizer):
    return [c for c in POINTS if normalizer.normalize_str("a" + chr(c) + "b") == "ab"]


letter = regex(r"\p{L}")
number = regex(r"\p{N}")
space = regex(r"\s")
digits = p.Digits(individual_digits=False)
numeric = [c for c in POINTS if len(digits.pre_tokenize_str("a" + chr(c))) == 2]
word = [c for c in POINTS if len(p.Whitespace().pre_tokenize_str("a" + chr(c))) == 1
        and p.Whitespace().pre_tokenize_str("a" + chr(c))[0][1][1] == 2]
bert = p.BertPreTokenizer()
bert_space = [c for c in POINTS if [w for w, _ in bert.pre_tokenize_str("a" + chr(c) + "b")] == ["a", "b"]]
punctuation = [c for c in POINTS if len(bert.pre_tokenize_str("a" + chr(c) + "b")) == 3]
clean = n.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
control = [c for c in removed(clean) if c not in (0, 0xFFFD)]
clean_space = [c for c in POINTS if c != 32 and clean.normalize_str(chr(c)) == " "]
mark = removed(n.StripAccents())
nonspacing = removed(n.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False))
cjk_rule = n.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False)
cjk = [c for c in POINTS if cjk_rule.normalize_str(chr(c)) == f" {chr(c)} "]
assert set(space) == set(bert_space), set(space) ^ set(bert_space)
assert (set(clean_space) | {32}) == set(space) - set(control), "controls go first, then spaces become U+0020"

lower = {c: n.Lowercase().normalize_str(chr(c)) for c in POINTS}
lower = {c: s for c, s in lower.items() if s != chr(c)}
special_lower = {c: s for c, s in lower.items() if len(s) != 1}
assert special_lower == {0x130: "i\u0307"}, special_lower

hangul = range(0xAC00, 0xD7A4)
full = {c: n.NFD().normalize_str(chr(c)) for c in POINTS if c not in hangul}
full = {c: s for c, s in full.items() if s != chr(c)}


def swaps(first, second):
    """The library's idea of a class, seen in how it orders two marks."""
    return first != second and n.NFD().normalize_str("a" + chr(first) + chr(second)) == "a" + chr(second) + chr(first)


marks = {c: unicodedata.combining(chr(c)) for c in POINTS if unicodedata.combining(chr(c)) and c not in full}
known = [c for c in marks if c in (0x334, 0x345) or swaps(c, 0x334) or swaps(0x345, c)]  # lowest and highest class
references = {marks[c]: c for c in reversed(known)}
classes = {}
for c in known:
    for k in sorted(references):
        if not swaps(c, references[k]):
            classes[c] = k
            break
classes |= {c: unicodedata.combining(s[0]) for c, s in full.items() if unicodedata.combining(s[0])}
pairs = {}
for c in full:
    raw = unicodedata.decomposition(chr(c))
    if raw and not raw.startswith("<"):
        parts = [int(x, 16) for x in raw.split()]
        if len(parts) == 2 and n.NFC().normalize_str("".join(map(chr, parts))) == chr(c):
            pairs[c] = parts
    else:
        print(f"no primary decomposition known here for {c:X}", file=sys.stderr)


def runs(points):
    out = []
    for c in sorted(points):
        if out and out[-1][0] + out[-1][1] == c:
            out[-1][1] += 1
        else:
            out.append([c, 1])
    return " ".join(f"{a:x}" if k == 1 else f"{a:x}+{k:x}" for a, k in out)


def lower_runs():
    out = []  # start, count, stride, distance
    for c in sorted(c for c in lower if c not in special_lower):
        distance = ord(lower[c]) - c
        if out:
            start, count, stride, d = out[-1]
            step = c - (start + (count - 1) * stride)
            if d == distance and step in (1, 2) and (count == 1 or step == stride):
                out[-1] = (start, count + 1, step, d)
                continue
        out.append((c, 1, 1, distance))
    return " ".join(f"{a:x}+{k:x}/{s}:{d:x}" for a, k, s, d in out)


def class_runs():
    out = []
    for c in sorted(classes):
        if out and out[-1][0] + out[-1][1] == c and out[-1][2] == classes[c]:
            out[-1][1] += 1
        else:
            out.append([c, 1, classes[c]])
    return " ".join(f"{a:x}+{k:x}:{v:x}" for a, k, v in out)


def literal(name, doc, text):
    lines = textwrap.wrap(text, 104, break_on_hyphens=False, break_long_words=False)
    body = "\n".join("    " + line for line in lines)
    return f'  /// {doc}\n  static let {name}: StaticString = """\n{body}\n    """\n'


head = ("// Generated by Tests/Fixtures/scripts/unicode_tables.py from tokenizers %s; do not edit.\n" % __version__)
sets = [
    ("letters", "`\\p{L}` of the split patterns.", letter), ("numbers", "`\\p{N}` of the split patterns.", number),
    ("spaces", "`\\s`, and what BERT calls white space.", space), ("numerics", "What `Digits` splits at.", numeric),
    ("words", "`\\w`, for tokens that match whole words only.", word),
    ("punctuation", "What BERT calls punctuation.", punctuation),
    ("controls", "What BERT removes: control, format, private and unassigned code points.", control),
    ("marks", "What `StripAccents` removes.", mark),
    ("nonspacing", "What BERT removes as accents.", nonspacing),
    ("ideographs", "What BERT surrounds with spaces.", cjk),
]
with open("Sources/Corpus/UnicodeCategories.swift", "w") as f:
    f.write(head + "// Pinned, because a vocabulary means the code points its own library called letters when it was made.\n\n")
    f.write("/// Runs of code points in hexadecimal: `start+count`, or `start` alone.\nenum UnicodeCategories {\n")
    f.write("\n".join(literal(*[name, doc, runs(points)]) for name, doc, points in sets))
    f.write("}\n")
with open("Sources/Corpus/UnicodeDecompositions.swift", "w") as f:
    f.write(head + "// Pinned canonical decompositions, combining classes and lower case, for NFC, NFD and BERT.\n\n")
    f.write("/// Tables in hexadecimal; each property names its notation.\nenum UnicodeDecompositions {\n")
    f.write("\n".join([
        literal("full", "`point:scalar,scalar…`, the full canonical decomposition; Hangul is computed.",
                " ".join(f"{c:x}:" + ",".join(f"{ord(x):x}" for x in s) for c, s in sorted(full.items()))),
        literal("pairs", "`first,second:composite`, what NFC composes; Hangul is computed.",
                " ".join(f"{a:x},{b:x}:{c:x}" for c, (a, b) in sorted(pairs.items()))),
        literal("classes", "`start+count:class`, canonical combining classes other than 0.", class_runs()),
        literal("lowercase", "`start+count/stride:distance`; U+0130, which becomes two scalars, is not here.", lower_runs()),
    ]))
    f.write("}\n")
print({name: len(points) for name, _, points in sets}, len(lower), len(full), len(pairs), len(classes))
print("classes other than Python's", 
      {f"{c:x}": (marks[c], classes[c]) for c in known if marks[c] != classes[c]}, "unknown", len(marks) - len(known))
print("numeric - number", [hex(c) for c in set(numeric) ^ set(number)][:20], len(set(numeric) ^ set(number)))
