import random
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from mcp_hub.services.inference.runtime import open_session, run_session
from mcp_hub.services.training.frameworks.tabular.features import (
    NO_TOKEN,
    TextFeatures,
    tokens_of,
)
from mcp_hub.services.training.frameworks.tabular.graph import Graph
from mcp_hub.services.training.frameworks.tabular.text import (
    TOKEN_PATTERN,
    fold,
    lower_ascii,
    spellings,
    words,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, hello WORLD_1!", ["hello", "hello", "world_1"]),
        ("a b, I x", []),
        ("Über über ÜBER", ["über", "über", "über"]),
        ("Straße STRASSE", ["straße", "strasse"]),
        ("Привет, привет! ПРИВЕТ", ["привет", "привет", "привет"]),
        ("ΟΔΟΣ οδος οδός", ["οδος", "οδος", "οδός"]),
        ("你好，世界", ["你", "好", "世", "界"]),
        ("great🚀🚀 👍🏽", ["great", "🚀", "🚀", "👍", "🏽"]),
        ("हिन्दी में।", ["हिन्दी", "में"]),
        ("مرحبا، بالعالم", ["مرحبا", "بالعالم"]),
        ("don’t “quote” it—ever…", ["don", "quote", "it", "ever"]),
        ("nul\x00byte new\nline\ttab", ["nul", "byte", "new", "line", "tab"]),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_spelling_that_is_not_usual_stays_itself() -> None:
    assert fold("пРиВеТ") == "пРиВеТ"
    assert words("McDONALD iPhone") == ["mcdonald", "iphone"]


def test_spellings_of_different_words_are_different() -> None:
    assert spellings("über") == ["über", "Über"]
    assert spellings("привет") == ["привет", "ПРИВЕТ", "Привет"]
    assert "strasse" not in spellings("straße")
    assert spellings("plain") == ["plain"]


@given(st.lists(st.text(min_size=1), max_size=20))
def test_a_token_is_a_spelling_of_just_the_word_it_folds_to(texts: list[str]) -> None:
    tokens = {token for text in texts for token in re.findall(TOKEN_PATTERN, lower_ascii(text))}
    vocabulary = {fold(token) for token in tokens}
    by_spelling: dict[str, str] = {}
    for word in vocabulary:
        for spelling in spellings(word):
            assert by_spelling.setdefault(spelling, word) == word
    for token in tokens:
        assert by_spelling[token] == fold(token)


def served(part: TextFeatures, texts: list[str]) -> np.ndarray:
    graph = Graph()
    value = part.add_to(graph)
    assert value is not None
    graph.input("t", TensorProto.STRING, 1)
    graph.output(value, "features", TensorProto.FLOAT, [None, None])
    session = open_session(graph.model().SerializeToString(), 1)
    column = np.array(texts, dtype=object).reshape(-1, 1)
    return run_session(session, ["features"], {"t": column})[0]


def check_served(texts: list[str], learned_from: list[str]) -> None:
    part = TextFeatures("t", 10_000)
    part.fit({"t": np.array(learned_from, dtype=object).reshape(-1, 1)})
    expected = part.transform({"t": np.array(texts, dtype=object).reshape(-1, 1)}).toarray()
    np.testing.assert_allclose(served(part, texts), expected, atol=1e-6)


def test_the_graph_cuts_every_character_of_unicode_as_python_does() -> None:
    codes = [*range(0xD800), *range(0xE000, 0x20100), *range(0x20100, 0x110000, 101)]
    everything = [chr(code) for code in codes]
    random.Random(0).shuffle(everything)
    texts = [
        " ".join(f"ab{char}Cd {char}{char} {char}x" for char in everything[start : start + 500])
        for start in range(0, len(everything), 500)
    ]
    graph = Graph()
    graph.output(
        tokens_of(graph, graph.input("t", TensorProto.STRING, 1)),
        "tokens",
        TensorProto.STRING,
        [None, 1],
    )
    session = open_session(graph.model().SerializeToString(), 1)
    cut = run_session(session, ["tokens"], {"t": np.array(texts, dtype=object).reshape(-1, 1)})[0]
    for text, tokens in zip(texts, cut.tolist(), strict=True):
        found = [token for token in tokens if token != NO_TOKEN]
        assert [fold(token) for token in found] == words(text)


def test_the_graph_counts_texts_as_python_does() -> None:
    alphabet = "aAbB zZ é É ß ẞ İ ı ſ K Ж ж Σ σ ς 你 好 🚀 👍 _ - . ' \n\t\u200d\ufe0f0١²ⅷ"
    rng = random.Random(1)
    texts = ["".join(rng.choices(alphabet, k=rng.randint(0, 60))) for _ in range(600)]
    check_served([*texts, "", "?!", "a", "Ω" * 5000], texts[:300])


def test_the_graph_takes_rows_without_words() -> None:
    for rows in (["", ""], ["!!!"], ["", "hello"], ["hello", ""]):
        check_served(rows, ["hello there", ""])


def test_no_words_make_no_features() -> None:
    part = TextFeatures("t", 10)
    assert part.fit({"t": np.array([["?"], [""]], dtype=object)}).shape == (2, 0)
    assert part.add_to(Graph()) is None


def test_only_the_most_frequent_words_are_kept() -> None:
    part = TextFeatures("t", 2)
    learned = part.fit({"t": np.array([["xx xx yy yy zz"]], dtype=object)})
    assert learned.shape == (1, 2)


def test_the_pattern_has_no_character_that_a_class_reads_otherwise() -> None:
    assert not set(TOKEN_PATTERN[1:-5]) & set("\\^")
    assert all(unicodedata.category(char) != "Cs" for char in TOKEN_PATTERN)
