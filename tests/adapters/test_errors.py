from mcp_hub.adapters.errors import Internal, NotFound, error_of, names_hint


def test_a_hint_names_the_nearest_in_any_case_and_all_there_are() -> None:
    assert names_hint("Iriss", ["iris", "wine"], "models") == (
        "Did you mean 'iris'? Existing models: iris, wine."
    )
    assert names_hint("y", ["X", "Y"], "columns").startswith("Did you mean 'Y'?")
    assert names_hint("iris", [], "models") == "There are no models yet."


def test_a_long_list_is_cut_and_says_so() -> None:
    hint = names_hint("zzz", [f"m{number:02}" for number in range(30)], "models")
    assert hint.endswith("and 10 more.")
    assert "Did you mean" not in hint


def test_a_reported_error_comes_back_as_its_kind() -> None:
    error = error_of("not_found", "There is no x.", "Try y.")
    assert isinstance(error, NotFound)
    assert error.as_dict() == {
        "code": "not_found", "message": "There is no x.", "hint": "Try y.",
    }  # fmt: skip
    assert isinstance(error_of("something new", "?", None), Internal)


def test_of_equally_near_names_the_first_is_meant() -> None:
    hint = names_hint("duration", ["duration_ns", "duration_ms"], "fields")
    assert hint.startswith("Did you mean 'duration_ms'?")
