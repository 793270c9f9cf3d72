"""What may be said of templates whatever the masks are, and what they are for known ones."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.services.telemetry.templates.drain import cluster

WORDS = st.sampled_from(
    ["user", "alice", "bob", "logged", "in", "out", "failed", "ok", "order", "<*>", "<*>ms", "of"]
)
MASKS = st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=60)


def templates(masks: list[str]) -> dict[str, set[str]]:
    return {group.template: {masks[at] for at in group.members} for group in cluster(masks)}


@given(MASKS)
def test_each_mask_is_in_exactly_one_template_and_matches_it(masks: list[str]) -> None:
    groups = cluster(masks)
    assert sorted(place for group in groups for place in group.members) == [*range(len(masks))]
    assert len({group.template for group in groups}) == len(groups)
    for group in groups:
        assert all(_matches(group.template, masks[place]) for place in group.members)


def _matches(template: str, mask: str) -> bool:
    wanted, tokens = template.split(), mask.split()
    return len(wanted) == len(tokens) and all(
        one in ("<*>", other) for one, other in zip(wanted, tokens, strict=True)
    )


@given(MASKS, st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_changes_the_templates(
    masks: list[str], random: Random
) -> None:
    again = masks + masks[: len(masks) // 2]
    random.shuffle(again)
    assert templates(again) == templates(masks)


def test_a_word_that_varies_becomes_a_wildcard() -> None:
    assert [*templates(["user alice logged in", "user bob logged in"])] == ["user <*> logged in"]


def test_a_variable_may_come_first_where_there_are_many() -> None:
    masks = [f"{name} logged in from <*>" for name in ("ann", "bob", "carol", "dan", "eve")]
    assert [*templates(masks)] == ["<*> logged in from <*>"]


def test_how_it_ended_is_no_variable() -> None:
    masks = ["payment of <*> for order <*> accepted", "payment of <*> for order <*> declined"]
    assert len(templates(masks)) == 2
    masks = ["connection to <*> opened by alice", "connection to <*> closed by bob"]
    assert len(templates(masks)) == 2


def test_texts_of_different_lengths_are_apart() -> None:
    assert len(templates(["disk full", "disk almost full", ""])) == 3


def test_texts_that_have_little_in_common_are_apart() -> None:
    assert len(templates(["cache warmed for tenant <*>", "cache misses exceed budget <*>"])) == 2


def test_many_unlike_masks_are_each_their_own() -> None:
    random = Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    masks = [
        " ".join("".join(random.choices(letters, k=6)) for _ in range(8)) for _ in range(2_000)
    ]
    assert len(cluster(masks)) == 2_000
