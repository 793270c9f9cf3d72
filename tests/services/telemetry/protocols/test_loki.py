import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.services.telemetry.protocols import loki
from mcp_hub.services.telemetry.protocols.otlp import Origin

TIME = 1_790_000_000_000_000_000
ORIGIN = Origin(b"")


def test_an_entry_of_json() -> None:
    metadata = {"trace_id": "5b8efff798038103d269b633813fc60c", "level": "warn"}
    stream = {"stream": {"app": "shop", "env": "x"}, "values": [[str(TIME), "hi", metadata]]}
    (record,) = loki.batch_of_json(json.dumps({"streams": [stream]}).encode(), ORIGIN).records
    assert (record.kind, record.name, record.service) == ("log", "log", "shop")
    assert (record.time, record.body, record.severity) == (TIME, "hi", 13)
    assert record.trace_id == bytes.fromhex(metadata["trace_id"])
    assert record.attributes == {"app": "shop", "env": "x"} | metadata


def test_both_encodings_say_the_same() -> None:
    message = loki.push_message()()
    stream = message.streams.add(labels='{app="shop"}')
    for line in ("one", "two"):
        entry = stream.entries.add(line=line)
        entry.timestamp.seconds, entry.timestamp.nanos = divmod(TIME + 7, 10**9)
        entry.structuredMetadata.add(name="user", value="u1")
    values = [[str(TIME + 7), line, {"user": "u1"}] for line in ("one", "two")]
    text = json.dumps({"streams": [{"stream": {"app": "shop"}, "values": values}]})
    assert loki.batch_of_protobuf(message.SerializeToString(), ORIGIN) == loki.batch_of_json(
        text.encode(), ORIGIN
    )


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True), st.text(max_size=9)))
def test_labels_are_read_as_they_are_written(labels: dict[str, str]) -> None:
    quoted = [
        f'{name}="{value.translate({92: chr(92) * 2, 34: chr(92) + chr(34), 10: chr(92) + "n"})}"'
        for name, value in labels.items()
    ]
    assert loki.parse_labels("{" + ", ".join(quoted) + "}") == labels


def test_escapes_of_go() -> None:
    assert loki.parse_labels(r'{a="\x41\u00e9\t\"\\", b=`\n`,}') == {"a": 'Aé\t"\\', "b": r"\n"}


@pytest.mark.parametrize("text", ["", "a", "{a}", "{a=b}", '{a="b}', '{a="b" c="d"}'])
def test_other_text_is_no_labels(text: str) -> None:
    with pytest.raises(ValueError, match="labels are"):
        loki.parse_labels(text)
