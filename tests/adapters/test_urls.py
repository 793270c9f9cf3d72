import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.urls import without_secret


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://hub:secret@host:5432/db", "postgresql://hub:***@host:5432/db"),
        ("postgresql://hub@host/db", "postgresql://hub@host/db"),
        ("postgresql://host:5432/db?sslmode=require", "postgresql://host:5432/db?sslmode=require"),
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=/run/postgresql"),
        ("redis://:secret@host/0", "redis://***@host/0"),
        ("s3://key:se%2Fcret@host/b?secure=false", "s3://key:***@host/b?secure=false"),
        ("mongodb+srv://me:secret@a,b:1/x?w=1", "mongodb+srv://me:***@a,b:1/x?w=1"),
        ("postgresql://hub:se@cret@host/db", "postgresql://hub:***@host/db"),
        ("postgresql://hub:se/cret@host/db", "postgresql://hub:***@host/db"),
        ("postgresql://hub:[secret@host/db", "postgresql://hub:***@host/db"),
        ("postgresql://h/db?user=me&password=secret", "postgresql://h/db?user=me&password=***"),
        ("postgresql://h/db?sslpassword=secret&a=b", "postgresql://h/db?sslpassword=***&a=b"),
        ("sqlite:///home/me/hub.db", "sqlite:///home/me/hub.db"),
        ("/home/me/blobs", "/home/me/blobs"),
        ("", ""),
    ],
)
def test_shows_all_but_the_secret(url: str, shown: str) -> None:
    assert without_secret(url) == shown


@given(st.text(min_size=16))
def test_never_shows_a_password(password: str) -> None:
    assert password not in without_secret(f"postgresql://hub:{password}@host/db")
