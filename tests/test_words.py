"""Docstrings, error messages and help use the field's terms (CONTRIBUTING.md, "Words")."""

import ast
import io
import re
import tokenize
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "ecgtransfer"

FOLDERS = sorted(
    [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()] + ["cli"]
)

ERRORS = r"`?(?:Config|Corpus|Signal|Storage|Run|Manifest|Diverged|Key|Value|Index)Error`?"

#: Patterns to avoid, each with what to write instead.
AVOID = {
    # Private words.
    r"\bmend(?:s|ed|ing)?\b": "repair",
    r"\btold\b": "given, conditioned on, reported",
    r"\bstand-ins?\b": "surrogates",
    r"\bstrangers?\b": "non-members, other parameters",
    r"\bmeeting point\b": "barrier",
    r"(?<!make )\brooms?\b": "package",
    r"\bnobody\b": "no one; or name the subject",
    r"\bdrown(?:s|ed)?\b": "hide, exceed",
    r"\bwhole or not at all\b": "atomically",
    r"\bat birth\b": "on construction",
    r"\banew\b": "again, from the start",
    r"\brecord numbers?\b": "record index, indices",
    r"\bnumbered `": "with indices `",
    # Idioms that make readers guess.
    r"\bcame (?:to|of)\b": "result of",
    r"\bwhat came\b": "what was found",
    r"\bg(?:o|oes|oing) on (?:from|with|in|where|as|when)\b": "continue, resume",
    r"\bwent on\b": "continued, resumed",
    r"\b(?:begin|begun|began) (?:again|with)\b": "start over, started with",
    r"\bleft aside\b": "ignored",
    r"\bleave(?:s)? (?:it|them|the \w+|records) out\b": "exclude, skip",
    r"\bso many\b": "this many",
    r"\bas (?:it|they) (?:is|are|comes?|stands?|lies?)\b(?! \w)": "say in which form",
    r"\bh(?:e|o)ld(?:s|ing)? \w+(?: \w+)? against\b": "compare with, check against",
    r"\bheld against\b": "compared with, checked against",
    r"\bsee(?:ing)? to (?:it|its|the|their)\b": "check",
    r"\bspeaks? for\b": "confirms",
    r"\bours\b|\btheirs\b": "name the thing",
    r"\bhere and there\b|\bis there and right\b": "say which",
    r"\b(?:in|of) the midst\b": "during",
    r"\b(?:which|that|it|and) is no (?!longer|more|other|such)\b": "is not a",
    r"\bask(?:s|ed)? for again\b": "repeated",
    # Fragments that need the reader to complete them.
    r"(?m)^(?:Of|As|For|Likewise|The same)\b[^\n]{0,60}\.?$(?<!:)": "a phrase that stands alone",
    r"(?m)^\s+\w[\w`, *]*: (?:of|likewise|the same|as it)\b": "begin with a noun",
    # One format of docstrings.
    rf"(?:^|[^\w.`]){ERRORS}(?:,[^.\n]*)? (?:for|if|where|when|unless|on|of|as)\b": "Raises:",
    rf"\bRaises {ERRORS}": "Raises:",
}
PATTERNS = {re.compile(pattern, re.IGNORECASE): instead for pattern, instead in AVOID.items()}


class Text(NamedTuple):
    """A text that users or readers see: its kind, its first line, and itself."""

    kind: str
    line: int
    words: str


def string_of(node):
    """Text of a string, an f-string with `{}` for values, or a sum of them; else None."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(string_of(part) or "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (string_of(node.left) or "{}") + (string_of(node.right) or "{}")
    return None


def texts(source):
    """Docstrings, messages of raised errors, help of options, and comments on constants."""
    tree = ast.parse(source)
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, documented) and (words := ast.get_docstring(node)):
            yield Text("docstring", node.body[0].lineno, words)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            for argument in node.exc.args:
                if words := string_of(argument):
                    yield Text("error", node.lineno, words)
        if (
            isinstance(node, ast.keyword)
            and node.arg == "help"
            and (words := string_of(node.value))
        ):
            yield Text("help", node.value.lineno, words)
    comment, begun = [], 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.string.startswith("#:"):
            begun = begun if comment else token.start[0]
            comment.append(token.string.removeprefix("#:").strip())
        elif token.type not in (tokenize.NL, tokenize.COMMENT) and comment:
            yield Text("comment", begun, " ".join(comment))
            comment = []


def findings(source):
    """What to change in a file: (line, kind, words, what to write instead)."""
    for text in texts(source):
        for pattern, instead in PATTERNS.items():
            fragment = "^(?:Of" in pattern.pattern and text.kind != "help"
            docstring_only = instead == "Raises:" and text.kind != "docstring"
            if not fragment and not docstring_only and (found := pattern.search(text.words)):
                yield text.line, text.kind, found[0].strip(), instead


def findings_below(folder):
    root = REPOSITORY if folder == "cli" else PACKAGE
    return [
        f"{path.relative_to(REPOSITORY)}:{line}: {kind}: {words!r}; write: {instead}"
        for path in sorted((root / folder).rglob("*.py"))
        for line, kind, words, instead in findings(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_texts_use_the_terms_of_the_field(folder):
    found = findings_below(folder)
    assert not found, "\n".join(found)


def test_the_root_modules_use_the_terms_of_the_field():
    found = [
        f"{path.name}:{line}: {kind}: {words!r}; write: {instead}"
        for path in sorted(PACKAGE.glob("*.py"))
        for line, kind, words, instead in findings(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


SAMPLE = '''"""What a training came to."""

#: Records that are mended.
LIMIT = 3


def write(path, option=Option(help="Of the set.")):
    """Write a file, whole or not at all.

    Args:
        path: of the file.

    RunError for a full disk.
    """
    raise RunError(f"{path} cannot be written; " + "see to its permissions")
'''


def test_the_patterns_find_what_they_are_for():
    found = Counter(kind for _, kind, _, _ in findings(SAMPLE))
    assert found == {"docstring": 4, "comment": 1, "help": 1, "error": 1}
    for example in (
        '"""Write a file.\\n\\n    Raises:\\n        RunError: the disk is full.\\n    """',
        "#: Records that are repaired.\nLIMIT = 3\n",
        'raise RunError(f"{path} cannot be written; check its permissions")\n',
        'Option(help="Name of the set.")\n',
    ):
        assert not list(findings(example))
