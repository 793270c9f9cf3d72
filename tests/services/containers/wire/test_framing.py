from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.services.containers.wire.framing import Lines

LIMIT = 20
ends = st.sampled_from([b"\n", b"\r\n"])
contents = st.binary(max_size=2 * LIMIT).map(
    lambda content: content.replace(b"\n", b"").replace(b"\r", b"")
)


@given(st.lists(st.tuples(contents, ends)), contents, st.data())
def test_lines_come_out_whole_however_they_are_cut(
    written: list[tuple[bytes, bytes]], rest: bytes, data: st.DataObject
) -> None:
    text = b"".join(content + end for content, end in written) + rest
    lines = Lines(LIMIT)
    out: list[bytes] = []
    while text:
        size = data.draw(st.integers(1, len(text)))
        out += lines.feed(text[:size])
        text = text[size:]
        assert lines.size <= LIMIT + 1
    if last := lines.end():
        out.append(last)
    everything = [content for content, _ in written] + [rest]
    assert out == [content for content in everything if 0 < len(content) <= LIMIT]
    too_long = [content for content in everything if len(content) > LIMIT]
    assert len(lines.overlong) == len(too_long)
    assert all(
        content.startswith(head.rstrip(b"\r"))
        for content, head in zip(too_long, lines.overlong, strict=True)
    )
