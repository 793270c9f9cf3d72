"""URI templates (RFC 6570) that servers offer."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp.shared.uri_template import UriTemplate


def parsed(template: str) -> "UriTemplate | None":
    """A server's template; None where it is none."""
    # With it all of the SDK is loaded, which most commands at a shell do without.
    from mcp.shared.uri_template import InvalidUriTemplate, UriTemplate

    try:
        return UriTemplate.parse(template)
    except InvalidUriTemplate:
        return None
