"""Full text: stems, rarity, and shares of what a text could have."""

import numpy as np
import pytest

from mcp_hub.services.telemetry.templates.bm25 import K1, B, Bm25, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("connections refused", "connection refused"),
        ("stopping caches", "stopped cache"),
        ("processes", "process"),
        ("http.serverRequest_count", "HTTP server requests count"),
        ("retries OOMKilled2", "retry OOM killed 2"),
        ("Größe überschritten", "größe überschritten"),
    ],
)
def test_forms_of_a_word_are_the_same(text: str, words: str) -> None:
    assert words_of(text) == words_of(words)


def test_little_words_find_nothing() -> None:
    assert words_of("what is the") == []


def test_the_scores_are_those_of_the_formula() -> None:
    texts = ["disk full", "disk slow disk", "network down"]
    lengths, average = np.array([2, 3, 2]), 7 / 3
    rare, rarer = np.log(1 + (3 - 2 + 0.5) / 2.5), np.log(1 + (3 - 0 + 0.5) / 0.5)
    times = np.array([1, 2, 0])
    norm = K1 * (1 - B + B * lengths / average)
    most = (rare + rarer) * (K1 + 1)
    expected = rare * times * (K1 + 1) / (times + norm) / most
    np.testing.assert_allclose(Bm25(texts).scores("disks vanished"), expected)


def test_of_two_words_the_rare_one_decides() -> None:
    scores = Bm25(["disk full", "disk slow", "disk down", "raid down"]).scores("raid disk")
    assert scores.argmax() == 3


def test_no_texts_and_no_words() -> None:
    assert Bm25([]).scores("disk").shape == (0,)
    assert Bm25(["", "disk"]).scores("the").tolist() == [0, 0]
