"""A small corpus of support messages in four topics, with noise: shared words, typos, no topic."""

import random

import polars as pl

_PHRASES = {
    "billing": [
        "I was charged twice this month", "the invoice shows the wrong amount",
        "please refund the last payment", "my card was declined again",
        "why did the price of my plan go up", "the VAT number on the receipt is missing",
        "the discount code did not apply", "I still pay for a plan I cancelled",
    ],
    "delivery": [
        "the parcel has not arrived yet", "tracking says delivered but nothing is here",
        "the courier left it with a neighbour", "can you ship to another address",
        "the box was damaged on arrival", "one item of my order is missing",
        "how long does shipping to Łódź take", "the driver never rang the bell",
    ],
    "technical": [
        "the app crashes when I open settings", "the page stays blank after the update",
        "uploads fail with error 500", "sync stopped working on my phone",
        "the export button does nothing", "notifications come hours late",
        "the search is slow and times out", "dark mode makes the text unreadable",
    ],
    "account": [
        "I cannot log in any more", "the password reset mail never comes",
        "please change the email of my profile", "delete my account and all my data",
        "someone else signed in as me", "two-factor codes are rejected",
        "how do I add a team member", "my user name is misspelt: Zoë, not Zoe",
    ],
}  # fmt: skip
_SHARED = [
    "hello there", "thanks in advance", "this is urgent", "I have asked before",
    "please help", "it worked last week", "what should I do", "kind regards", "so annoying 😡",
    "I like your service otherwise 👍", "",
]  # fmt: skip


def support_messages(rows: int = 600, seed: int = 0) -> pl.DataFrame:
    """Columns `message` (missing in a few rows) and `topic`."""
    rng = random.Random(seed)
    topics = list(_PHRASES)
    messages: list[str | None] = []
    labels: list[str] = []
    for _ in range(rows):
        topic = rng.choice(topics)
        spoken_of = rng.choice(topics) if rng.random() < 0.12 else topic
        words = f"{rng.choice(_SHARED)} {_part(rng, spoken_of)}. {rng.choice(_SHARED)}".split()
        if rng.random() < 0.3:
            words += _part(rng, rng.choice(topics)).split()
        text = " ".join(_typo(rng, word) if rng.random() < 0.05 else word for word in words)
        messages.append(None if rng.random() < 0.01 else text)
        labels.append(topic)
    return pl.DataFrame({"message": messages, "topic": labels})


def _part(rng: random.Random, topic: str) -> str:
    words = rng.choice(_PHRASES[topic]).split()
    start = rng.randrange(max(1, len(words) - 3))
    return " ".join(words[start:])


def _typo(rng: random.Random, word: str) -> str:
    at = rng.randrange(len(word))
    return word[:at] + word[at + 1 :] if len(word) > 3 else word.upper()
