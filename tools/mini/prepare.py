"""Clean the training text of mini, train its tokenizer, and write the token streams for pretraining.

    python -m venv VENV && VENV/bin/pip install -r tools/mini/requirements.txt
    VENV/bin/python tools/mini/prepare.py DATA OUT [--model packages/mini/model] [--fixture PATH] [--vocabulary 4096]

DATA holds books/*.txt (Project Gutenberg texts), tinyshakespeare.txt and gsm8k.train.jsonl; whatever is absent is
passed over. Only public-domain and MIT text is read: a book whose own header says that it is copyrighted is skipped,
and the skip is printed. OUT receives

    train.txt, valid.txt    documents, separated by a line `<|document|>`
    train.u16, valid.u16    the same as token ids, little-endian uint16, every document as <s> ids </s>
    stats.json              documents, characters and tokens of every source

A document is a piece of 2,000 to 4,000 characters cut at a paragraph, or one GSM8K problem. The last 5 % of every
source is held out (valid). Training documents are shuffled once with a fixed seed, so that a reader that goes through
the stream in order sees mixed sources.
"""

import argparse
import json
import random
import re
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]
SEPARATOR = "<|document|>"

# GPT-2's word pattern, but numbers one digit at a time: sums stay learnable and ids are not spent on rare years.
WORDS = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

HEADING = re.compile(
    r"^(?:(?:chapter|book|part|volume|prologue|epilogue|adventure|act|scene)\b[\s.:]*(?:[ivxlc]+|\d+|the \w+)?\b"
    r"|[IVXLC]+\.?(?:\s|$)|\d+[.\s]*$|the end\b|end of\b|finis\b|contents\b|table of contents|illustrations?\b)",
    re.IGNORECASE,
)
NOTICE = re.compile(r"produced by|project gutenberg|gutenberg|e-?text|transcriber|redactor|\(c\)|©|isbn|pink tree", re.IGNORECASE)


def normalise(text: str) -> str:
    """One kind of quote, dash, ellipsis and space; no emphasis marks, pictures or note numbers."""
    for old, new in {
        "\ufeff": "", "\r": "", "\u00a0": " ", "“": '"', "”": '"', "‘": "'", "’": "'", "′": "'", "…": "...",
        "——": "—", "–": "-",
    }.items():
        text = text.replace(old, new)
    text = re.sub(r" ?-{2,} ?", "—", text)
    text = re.sub(r"\[\s*illustration[^\]]*\]", "", text, flags=re.IGNORECASE)
    text = re.sub(r"\[\*?footnote[^\]]*\]", "", text, flags=re.IGNORECASE)
    text = re.sub(r"\[\d+\]|\[\*\]", "", text)
    text = re.sub(r"</?[a-z]+>", "", text)
    text = re.sub(r"_([^_]+)_", r"\1", text).replace("_", "")
    return text


def strip_gutenberg(text: str) -> str:
    """The work itself: what stands between the START and END marks, without its list of footnotes."""
    start = re.search(r"\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG[^*]*\*\*\*", text)
    end = re.search(r"\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG", text)
    text = text[start.end() if start else 0 : end.start() if end else len(text)]
    notes = re.search(r"^FOOTNOTES:\s*\n\s*\n(?=\[1\])", text, flags=re.MULTILINE)
    if notes:  # the numbers in the text are glued to words: Pylos;122
        text = re.sub(r"(?<=[A-Za-z,.;:!?”’)])\d{1,3}\b(?![\d,]*\d)|(?<=[.”]) \d{1,3}(?=\n\n)", "", text[: notes.start()])
    return text


def unwrap(block: str) -> str:
    """A hard-wrapped paragraph as one line; verse and letters (indented lines) keep theirs."""
    lines = [line.rstrip() for line in block.split("\n") if line.strip()]
    verse = len(lines) > 1 and sum(line.startswith(("  ", "\t")) for line in lines) * 2 > len(lines)
    joined = ("\n" if verse else " ").join(line.strip() for line in lines)
    return re.sub(r"[ \t]+", " ", joined)


def is_heading(text: str) -> bool:
    """A title, a chapter number or a line of a contents list: short and not ended like a sentence."""
    if len(text) > 160:
        return False
    letters = [c for c in text if c.isalpha()]
    if not letters or (HEADING.match(text) and len(text) < 120 and not re.search(r"[a-z]{2}[.!?]['\"]?$", text)):
        return True
    return all(c.isupper() for c in letters) or not re.search(r"[.!?:;,\"'—)\]*]$", text) and "\n" not in text


def is_contents(block: str) -> bool:
    """A list of chapters set as one block."""
    lines = [line for line in block.split("\n") if line.strip()]
    numbered = sum(bool(re.match(r"\s*(?:chapter|book|part|[ivxlc]+\.|\d+\.?\s+[A-Z])", line, re.IGNORECASE)) for line in lines)
    return len(lines) > 3 and numbered * 2 > len(lines)


def paragraphs_of_book(text: str) -> list[str]:
    """The prose paragraphs in order; an empty string where a heading stood."""
    body = normalise(strip_gutenberg(text))
    body = re.sub(r"(?<=\w)[ \n]-[ \n]|(?<=[,;:.!?'\"])[ \n]-[ \n](?! )|[ ]-$", "—", body, flags=re.MULTILINE)
    found = [unwrap(block) for block in re.split(r"\n\s*\n", body) if not is_contents(block)]
    kept: list[str] = []
    for paragraph in filter(None, found):
        if paragraph.isspace() or (NOTICE.search(paragraph) and len(kept) < 12) or "Project Gutenberg" in paragraph:
            continue
        if re.search(r"[\u0370-\u03ff\u1f00-\u1fff]", paragraph):  # Greek quotations of a preface
            continue
        kept.append("" if is_heading(paragraph) or re.match(r"CHAPTER [IVXLC\d]+\.? ", paragraph) else paragraph)
    first = next((i for i, p in enumerate(kept) if len(p) >= 200 and re.search(r"[.!?]['\"]?$", p)), 0)
    return kept[first:]


def chunks(paragraphs: list[str], join: str = "\n\n", low: int = 2000, high: int = 4000) -> list[str]:
    """Documents of about `low` to `high` characters, cut at paragraphs; a heading ends one that is at least half full."""
    documents: list[str] = []
    current: list[str] = []
    size = 0

    def close() -> None:
        nonlocal current, size
        if current:
            documents.append(join.join(current))
        current, size = [], 0

    for paragraph in paragraphs:
        if not paragraph:
            if size >= low / 2:
                close()
            continue
        if size and size + len(paragraph) > high:
            close()
        current.append(paragraph)
        size += len(paragraph) + len(join)
        if size >= (low + high) / 2:
            close()
    close()
    return documents


def problem(row: dict) -> str:
    """Question and worked answer without the <<48/2=24>> calculator marks."""
    answer = re.sub(r"<<[^>]*>>", "", row["answer"]).strip()
    return normalise(f"Question: {row['question'].strip()}\nAnswer: {answer}")


def sources(data: Path) -> dict[str, list[str]]:
    """Source name → its documents in order."""
    found: dict[str, list[str]] = {}
    for path in sorted((data / "books").glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        if "COPYRIGHTED" in text[:4000]:
            print(f"{path.name}: its header says that it is copyrighted; skipped")
            continue
        found[path.stem] = chunks(paragraphs_of_book(text))
    plays = data / "tinyshakespeare.txt"
    if plays.exists():
        text = normalise(plays.read_text(encoding="utf-8"))
        found[plays.stem] = chunks([p.strip() for p in re.split(r"\n\s*\n", text)])
    problems = data / "gsm8k.train.jsonl"
    if problems.exists():
        found["gsm8k"] = [problem(json.loads(line)) for line in problems.read_text(encoding="utf-8").splitlines() if line]
    if not found:
        raise SystemExit(f"{data} holds no books/*.txt, tinyshakespeare.txt or gsm8k.train.jsonl")
    return found


def train_tokenizer(texts: list[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE (no unknown token exists); encoding with special tokens puts <s> in front."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": {
            str(i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
            for i, t in enumerate(SPECIAL)
        },
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def ids_of(tokenizer: Tokenizer, documents: list[str]) -> np.ndarray:
    bos, eos = tokenizer.token_to_id("<s>"), tokenizer.token_to_id("</s>")
    stream: list[int] = []
    for encoding in tokenizer.encode_batch(documents, add_special_tokens=False):
        stream += [bos, *encoding.ids, eos]
    return np.array(stream, dtype="<u2")


# Our own strings, of every kind that a tokenizer gets wrong.
SAMPLES = [
    "", " ", "  ", "\n", "\n\n", "\t", " \n ", "a", " a", "a ", "The lamp burned all night.", "  two spaces before",
    "two spaces  between", "trailing space ", "tabs\tand\nnew lines\r\nof both kinds", "don't we'll they've I'm she'd it's",
    "DON'T SHOUT, IT'S LATE", "He said: \"Well, well.\"", "'single quotes'", "“curly quotes” and ‘these’", "it’s curly",
    "an em dash—so—and two -- hyphens", "ellipsis... and … too", "1234567890", "in 1871 at 12:30, £3 4s. 6d.", "3.14159 -2e-8",
    "48/2 = 24 and 48+24 = 72\n#### 72", "a+b=c; (x*y)/z != 0", "naïve café Ærø straße", "Ελληνικά και кириллица",
    "日本語の文章と中文", "한국어 문장", "العربية", "emoji 🙂 and 👩‍🚀 joined", "zero\u200bwidth", "non\u00a0breaking",
    "e\u0301 decomposed", "\u2028line separator", "<notaspecial>", "<s>", "</s> in the middle <s> of text", "<pad><pad>",
    "<|im_start|>user\nHow is the sea?<|im_end|>\n", "x" * 70, "ab" * 40, "https://example.org/a?b=c&d=%20#e",
    "def f(x):\n    return x + 1\n", "{\"prompt\": \"a\", \"completion\": \" b\"}", "Question: How many?\nAnswer: 7",
    "supercalifragilistic antidisestablishmentarianism", "\u0000 null and \u007f delete", "$12 an hour, 50% off, #1 & co. @ home",
]  # fmt: skip


def fixture_of(tokenizer: Tokenizer) -> list[dict]:
    """What the Python library makes of every sample: its ids, with the special token too, and its decoding."""
    rows = []
    for text in SAMPLES:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        rows.append({
            "text": text,
            "ids": ids,
            "special": tokenizer.encode(text).ids,
            "decoded": tokenizer.decode(ids, skip_special_tokens=False),
            "skipped": tokenizer.decode(ids, skip_special_tokens=True),
        })
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, default=Path("packages/mini/model"))
    parser.add_argument("--fixture", type=Path, default=Path("packages/mini/test/fixtures/tokenizer.json"))
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--valid", type=float, default=0.05, help="share held out at the end of every source")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    train: list[tuple[str, str]] = []
    valid: list[tuple[str, str]] = []
    for name, documents in sources(options.data).items():
        keep, total = 0, sum(map(len, documents))
        budget = (1 - options.valid) * total
        split = 0
        while split < len(documents) and keep + len(documents[split]) <= budget:
            keep += len(documents[split])
            split += 1
        train += [(name, d) for d in documents[:split]]
        valid += [(name, d) for d in documents[split:]]
    random.Random(options.seed).shuffle(train)

    tokenizer = train_tokenizer([d for _, d in sorted(train)], options.vocabulary)
    save_tokenizer(tokenizer, options.model)
    if options.fixture:
        options.fixture.parent.mkdir(parents=True, exist_ok=True)
        rows = ",\n".join(json.dumps(row, ensure_ascii=True) for row in fixture_of(tokenizer))
        options.fixture.write_text(f"[\n{rows}\n]\n", encoding="utf-8")

    options.out.mkdir(parents=True, exist_ok=True)
    stats: dict[str, dict] = {}
    for split_name, rows in (("train", train), ("valid", valid)):
        documents = [d for _, d in rows]
        (options.out / f"{split_name}.txt").write_text(f"\n{SEPARATOR}\n".join(documents) + "\n", encoding="utf-8")
        stream = ids_of(tokenizer, documents)
        stream.tofile(options.out / f"{split_name}.u16")
        by_source = {
            name: {
                "documents": sum(n == name for n, _ in rows),
                "characters": sum(len(d) for n, d in rows if n == name),
                "tokens": len(ids_of(tokenizer, [d for n, d in rows if n == name])),
            }
            for name in sorted({n for n, _ in rows})
        }
        characters = sum(map(len, documents))
        stats[split_name] = {
            "documents": len(documents),
            "characters": characters,
            "tokens": len(stream),
            "characters_per_token": round(characters / (len(stream) - 2 * len(documents)), 3),
            "sources": by_source,
        }
        print(f"{split_name}: {len(documents)} documents, {characters} characters, {len(stream)} tokens, "
              f"{stats[split_name]['characters_per_token']} characters per token")
    (options.out / "stats.json").write_text(json.dumps(stats, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
