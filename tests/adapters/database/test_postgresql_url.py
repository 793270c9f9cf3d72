import pytest

from mcp_hub.adapters.database.postgresql_url import database_of, dsn_of, settings_of
from mcp_hub.adapters.errors import InvalidArgument


@pytest.mark.parametrize(
    ("url", "dsn"),
    [
        ("postgresql://me:a%40b@host:5432/db", "postgresql://me:a%40b@host:5432/db"),
        ("postgres://host/db", "postgresql://host/db"),
        ("postgresql+asyncpg://host/db", "postgresql://host/db"),
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=%2Frun%2Fpostgresql"),
        ("postgresql://a:1,b:2/db", "postgresql://a:1,b:2/db"),
        ("postgresql://[::1]:5432/db", "postgresql://[::1]:5432/db"),
        ("postgresql://host?dbname=db", "postgresql://host/db"),
        ("postgresql://host/a%20b%2Fc", "postgresql://host/a%20b%2Fc"),
        (
            "postgresql://host/db?sslmode=require&channel_binding=require&connect_timeout=3",
            "postgresql://host/db?sslmode=require",
        ),
    ],
)
def test_takes_what_libpq_takes(url: str, dsn: str) -> None:
    assert dsn_of(url) == dsn


def test_names_another_database() -> None:
    assert dsn_of("postgresql://me@host/db?sslmode=require", "postgres") == (
        "postgresql://me@host/postgres?sslmode=require"
    )
    assert database_of("postgresql://host/%C3%BC%22") == 'ü"'


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://me:secret@host/db", "mysql://me:***@host/db is no URL of a PostgreSQL database"),
        ("postgresql:host", "is no URL"),
        ("", "is no URL"),
        ("postgresql://me:secret@host", "names no database"),
        ("postgresql://me:secret@host/", "names no database"),
        ("postgresql://me:se@cret@host/db", "postgresql://me:***@host/db cannot be read"),
        ("postgresql://me:se/cret@host/db", "postgresql://me:***@host/db cannot be read"),
        ("postgresql://me:se?cret@host/db", "postgresql://me:***@host/db cannot be read"),
        ("postgresql://me:1#cret@host/db", "postgresql://me:***@host/db cannot be read"),
        ("postgresql://me:se[cret@host/db", "postgresql://me:***@host/db cannot be read"),
        ("postgresql://me:secret@host:port/db", "cannot be read"),
    ],
)
def test_refuses_what_cannot_be_meant_and_tells_no_secret(url: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        dsn_of(url)
    assert said in raised.value.message
    assert "cret" not in raised.value.message
    assert raised.value.hint


def test_a_setting_in_the_url_goes_first() -> None:
    settings = settings_of("postgresql://host/db?statement_timeout=5&timezone=CET", 30)
    assert "statement_timeout" not in settings
    assert "timezone" not in settings
    assert settings["idle_in_transaction_session_timeout"] == "30000"
