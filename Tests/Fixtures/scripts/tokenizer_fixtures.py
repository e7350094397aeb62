"""Writes Tests/Fixtures/tokenizers: tiny tokenizers of every supported kind and what Hugging Face `tokenizers` makes of
a list of texts. Run from the repository root: python Tests/Fixtures/scripts/tokenizer_fixtures.py [folder [random texts]]
"""
import json
import os
import random
import sys
from tokenizers import AddedToken, Regex, Tokenizer, decoders as d, models as m, normalizers as n
from tokenizers import pre_tokenizers as p, processors as pp, trainers as t

OUT = sys.argv[1] if len(sys.argv) > 1 else "Tests/Fixtures/tokenizers"
RANDOM = int(sys.argv[2]) if len(sys.argv) > 2 else 40

CORPUS = [
    "the river was low and the ferry waited for the rain, and the rain did not come until the evening",
    "she's sure they've seen what he'd say; we'll see if it isn't so, don't you think?",
    "a lease is a contract and a contract binds the parties who sign the lease in 1998 or 2024",
    "the patient took 250 mg twice a day for 14 days and the fever was gone on day 3",
    "def area(width, height):\n    return width * height\n\n\nprint(area(3, 4))\n",
    "über die Brücke, naïve café, Ångström, señor, garçon; ΑΒΓ αβγ; мир и война; 中文 字符 日本語 한국어",
]
TEXTS = [
    "", " ", "  ", "\n", "\n\n \n", "\t", "\r\n", "a", " a", "a ", "  a  b  ", "the river", " the river", "The River",
    "she's WE'LL they'VE it'ſ 'sure 'S", "1234567 12 3.14", "٤٥٦ ½ Ⅷ ²", "foo  bar   baz\n\n\nqux \n x", "x=1;y**2 + 3*x\n",
    "café cafe\u0301 \u212b \u1e9b\u0323 e\u0323\u0302", "\u1112\u1161\u11ab \ud55c\uae00 \uac00\u11a8", "한국어 中文 字符", "ªºʰ ǅ İ ẞ",
    "emoji 😀👍🏽 👨\u200d👩\u200d👧", "nbsp\u00a0x\u2009y\u3000z\u0085w\u2028v", "null\u0000byte bell\u0007 \ufeff \ufffd \ue000 \U0001fbff",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ab" * 80, "contractparties" * 12,
    "before<|end|>after", "<|end|><|end|>", "x <mask> y", "x<mask>y", "<mask>  <mask>", " word  word ", "swordword word", "the <s> a </s> b <unk>",
    "[CLS] the [MASK]ed [SEP]", "▁ ▁▁the▁river", "Ġ Ċ <0x41>", "a     b         c", "don't do not can't 's , . ? !", "नमस्ते दुनिया สวัสดี", "مرحبا بالعالم שלום",
    "\u0301a\u0301\u0323 a\u0323\u0301", "🇫🇷🇩🇪", "end\n", "ﬁ ﬀ ΑΣ ας",
]


def randoms(count):
    generator = random.Random(7)
    pieces = ["the", " ", "  ", "\n", "\r\n", "\t", "a", "é", "e\u0301", "\u0323", "'s", "'LL", "'", "12", "345678", "½", ".", "--", "한", "\u1112\u1161",
              "中", "字", "<|end|>", "<mask>", "word", "▁", "Ω", "\u212b", "ß", "İ", "Σ", "\u00a0", "\u3000", "\u200b", "\u0000", "😀", "река", "contract",
              "[SEP]", "</s>", "_", "²", "\ufffd", "\u0345", "\u0d4a", "\u09c7\u09be", "𑄮", "\U0001d15e", "\u2adc"]
    out = []
    for index in range(count):
        if index % 4 == 3:
            out.append("".join(chr(c) for c in (generator.randrange(0x20, 0x3400) for _ in range(12)) if not 0xD800 <= c < 0xE000))
        elif index % 40 == 2:
            out.append("".join(chr(c) for c in (generator.randrange(0x20, 0x30000) for _ in range(12)) if not 0xD800 <= c < 0xE000))
        else:
            out.append("".join(generator.choice(pieces) for _ in range(generator.randrange(1, 25))))
    return out


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ALPHABET = sorted(p.ByteLevel.alphabet())


def byte_level(pre, size=420, special=("<|end|>",), **model):
    tokenizer = Tokenizer(m.BPE(**model))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = d.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, t.BpeTrainer(
        vocab_size=size, special_tokens=list(special), initial_alphabet=ALPHABET, show_progress=False))
    return tokenizer


def sentence_piece(normalizer, pre=None, fallback=True, size=120):
    """Trained on marked words, then given the byte tokens and rules of Llama 2."""
    trained = Tokenizer(m.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = p.Metaspace()
    trained.train_from_iterator(CORPUS[:5], t.BpeTrainer(vocab_size=size, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False))
    model = json.loads(trained.to_str())["model"]
    vocab = {k: v for k, v in sorted(model["vocab"].items(), key=lambda kv: kv[1])}
    if fallback:
        for byte in range(256):
            vocab[f"<0x{byte:02X}>"] = len(vocab)
    tokenizer = Tokenizer(m.BPE(vocab, [tuple(x) for x in model["merges"]], unk_token="<unk>", fuse_unk=True, byte_fallback=fallback))
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.normalizer = normalizer
    if pre:
        tokenizer.pre_tokenizer = pre
    tokenizer.post_processor = pp.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    tokenizer.decoder = d.Sequence([d.Replace("▁", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])
    return tokenizer


def gpt2():
    tokenizer = byte_level(p.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = pp.ByteLevel(trim_offsets=False)
    return tokenizer


def llama3():
    tokenizer = byte_level(p.Sequence([p.Split(Regex(LLAMA3), "isolated"), p.ByteLevel(add_prefix_space=False, use_regex=False)]),
                           special=("<s>", "<|end|>"), ignore_merges=True)
    tokenizer.post_processor = pp.Sequence([pp.ByteLevel(), pp.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])])
    # A token that no merge makes: only a model that looks at whole words first finds it.
    state = json.loads(tokenizer.to_str())
    state["model"]["vocab"]["swordword"] = len(state["model"]["vocab"])
    return Tokenizer.from_str(json.dumps(state))


def qwen2():
    split = p.Split(Regex(LLAMA3.replace("{1,3}", "")), "isolated")
    tokenizer = byte_level(p.Sequence([split, p.ByteLevel(add_prefix_space=False, use_regex=False)]))
    tokenizer.normalizer = n.NFC()
    return tokenizer


def flags():
    tokenizer = byte_level(p.ByteLevel(add_prefix_space=False), special=())
    tokenizer.add_tokens([
        AddedToken("<mask>", lstrip=True, rstrip=True, special=True), AddedToken("word", single_word=True),
        AddedToken("  ", normalized=True), AddedToken("    ", normalized=True), AddedToken("é", normalized=True),
        AddedToken("<|end|>", lstrip=True), AddedToken("river", rstrip=True, normalized=False), AddedToken("</s>", special=True)])
    tokenizer.normalizer = n.NFC()
    return tokenizer


def roberta():
    tokenizer = byte_level(p.ByteLevel(add_prefix_space=True), special=("<s>", "</s>", "<mask>"))
    tokenizer.post_processor = pp.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return tokenizer


def digits():
    return byte_level(p.Sequence([p.Digits(individual_digits=True), p.ByteLevel(add_prefix_space=False)]))


def gaps():
    """A byte-level vocabulary that lacks bytes, with an unknown token that is not fused."""
    tokenizer = Tokenizer(m.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = p.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = d.ByteLevel()
    tokenizer.train_from_iterator(CORPUS[:2], t.BpeTrainer(vocab_size=90, special_tokens=["<unk>"], show_progress=False))
    return tokenizer


def llama2():
    return sentence_piece(n.Sequence([n.Prepend("▁"), n.Replace(" ", "▁")]))


def trimmed():
    return sentence_piece(n.Sequence([
        n.Replace(Regex(r"\A +| +\z"), ""), n.Replace(Regex(" {2,}"), " "), n.Prepend("▁"), n.Replace(" ", "▁")]), fallback=False)


def metaspace(scheme, split):
    tokenizer = sentence_piece(n.Sequence([n.NFC()]), p.Metaspace(prepend_scheme=scheme, split=split))
    tokenizer.decoder = d.Metaspace(prepend_scheme=scheme)
    return tokenizer


def bert(lowercase, strip):
    tokenizer = Tokenizer(m.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = n.BertNormalizer(lowercase=lowercase, strip_accents=strip)
    tokenizer.pre_tokenizer = p.BertPreTokenizer()
    tokenizer.train_from_iterator(CORPUS, t.WordPieceTrainer(
        vocab_size=230, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    tokenizer.post_processor = pp.BertProcessing(("[SEP]", 3), ("[CLS]", 2)) if strip else pp.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.decoder = d.WordPiece(cleanup=not strip)
    state = json.loads(tokenizer.to_str())
    state["model"]["max_input_chars_per_word"] = 60
    return Tokenizer.from_str(json.dumps(state))


def characters():
    tokenizer = Tokenizer(m.BPE({"<|end|>": 0, **{chr(96 + i): i for i in range(1, 27)}}, []))
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.decoder = d.Fuse()
    tokenizer.post_processor = pp.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", 0)])
    return tokenizer


def words(pre):
    tokenizer = Tokenizer(m.WordLevel(unk_token="<unk>"))
    tokenizer.normalizer = n.Sequence([n.Strip(), n.NFD(), n.StripAccents(), n.Lowercase()])
    tokenizer.pre_tokenizer = pre
    tokenizer.train_from_iterator(CORPUS, t.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False))
    return tokenizer


KINDS = {
    "gpt2": gpt2, "llama3": llama3, "qwen2": qwen2, "flags": flags, "roberta": roberta, "digits": digits, "gaps": gaps,
    "llama2": llama2, "trimmed": trimmed, "metaspace-first": lambda: metaspace("first", True),
    "metaspace-always": lambda: metaspace("always", False), "metaspace-never": lambda: metaspace("never", True),
    "bert": lambda: bert(True, None), "bert-cased": lambda: bert(False, True), "characters": characters,
    "words": lambda: words(p.Whitespace()),
    "words-isolated": lambda: words(p.Sequence([p.WhitespaceSplit(), p.Punctuation("contiguous"), p.Digits()])),
    "words-previous": lambda: words(p.Sequence([p.Split(" ", "merged_with_previous"), p.Punctuation("merged_with_next")])),
    "words-delimited": lambda: words(p.Sequence([p.CharDelimiterSplit("a"), p.Split("the", "removed", invert=False)])),
}
os.makedirs(OUT, exist_ok=True)
texts = TEXTS + randoms(RANDOM)
dump = dict(ensure_ascii=True, separators=(",", ":"))
with open(f"{OUT}/texts.json", "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(x, **dump) for x in texts) + "\n]\n")
for name, make in KINDS.items():
    tokenizer = make()
    os.makedirs(f"{OUT}/{name}", exist_ok=True)
    with open(f"{OUT}/{name}/tokenizer.json", "w") as f:
        f.write(json.dumps(json.loads(tokenizer.to_str()), **dump) + "\n")
    tokenizer = Tokenizer.from_file(f"{OUT}/{name}/tokenizer.json")
    rows = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        special = tokenizer.encode(text, add_special_tokens=True).ids
        rows.append({"ids": ids, "special": special, "decoded": tokenizer.decode(special, skip_special_tokens=False),
                     "skipped": tokenizer.decode(special, skip_special_tokens=True)})
    with open(f"{OUT}/{name}/encodings.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(x, **dump) for x in rows) + "\n]\n")

os.makedirs(f"{OUT}/training", exist_ok=True)
generator = random.Random(3)
lines = CORPUS + [" ".join(generator.choice(generator.choice(CORPUS).split()) for _ in range(12)) for _ in range(60)]
lines = "\n".join(lines + ["aaaaaaa aaaa aaaaaaaaaaa", "abababab ababab"]).split("\n")
with open(f"{OUT}/training/corpus.txt", "w") as f:
    f.write("\n".join(lines))
tokenizer = Tokenizer(m.BPE())
tokenizer.pre_tokenizer = p.ByteLevel(add_prefix_space=False)
tokenizer.train_from_iterator([line + "\n" for line in lines], t.BpeTrainer(
    vocab_size=520, min_frequency=2, special_tokens=["<|endoftext|>", "<pad>"], initial_alphabet=ALPHABET, show_progress=False))
model = json.loads(tokenizer.to_str())["model"]
with open(f"{OUT}/training/expected.json", "w") as f:
    f.write(json.dumps({"size": 520, "vocabulary": sorted(model["vocab"], key=model["vocab"].get),
                        "merges": [" ".join(x) for x in model["merges"]]}, **dump) + "\n")
