"""Pages for people who open a link of a mail: plain HTML without scripts, and without files from elsewhere.

Opening a page changes nothing, because scanners of mail and browsers open links by themselves. A button does.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from http import HTTPStatus

from api.answers import Answer

_STYLE = """
:root { color-scheme: light dark }
body { font: 1.125rem/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 36rem; padding: 2rem 1rem; overflow-wrap: anywhere }
button { font: inherit; min-height: 2.75rem; padding: .5rem 1.5rem; cursor: pointer }
"""

_POLICY = (
    "default-src 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

_HEADERS = (
    (b"Content-Security-Policy", _POLICY.encode()),
    (b"Cache-Control", b"no-store"),
    # The address has the token.
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
    (b"X-Robots-Tag", b"noindex, nofollow"),
)


def page(
    title: str,
    *sentences: str,
    button: str = "",
    target: str = "",
    status: int = HTTPStatus.OK,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Answer:
    """A page with a heading, paragraphs, and at most one button. All texts are escaped here.

    Args:
        button: The word on a button that posts; "": there is none.
        target: The address that it posts to, relative to the page; "": the page's own.
    """
    paragraphs = "\n".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    action = f' action="{escape(target)}"' if target else ""
    form = f'<form method="post"{action}><button>{escape(button)}</button></form>' if button else ""
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{paragraphs}
{form}
</main>
</body>
</html>
"""
    return Answer(status, text.encode(), (*_HEADERS, *headers), b"text/html; charset=utf-8")
