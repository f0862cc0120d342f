"""The page for whoever is outside: plain HTML that needs no script, since Dash is inside."""

from html import escape
from urllib.parse import urlencode

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · IndustrialMind</title>
<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
<script src="/assets/theme.js"></script>
<link rel="stylesheet" href="/assets/room.css">
</head>
<body class="door">
<main>
<p class="brand">IndustrialMind</p>
<h1>{title}</h1>
{said}
<form method="post" action="/login">
<input type="hidden" name="next" value="{next}">
<label for="name">Name</label>
<input id="name" name="name" value="{name}" autocomplete="username" autocapitalize="none" spellcheck="false"
 maxlength="100" required{focus_name}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" maxlength="256"
 required{focus_password}>
<button type="submit">Sign in</button>
</form>
{provider}
<details{link_open}>
<summary>Sign in with a link</summary>
<p>Run this where the plant runs, and open the link that it prints:</p>
<pre><code>industrialmind login-link</code></pre>
</details>
</main>
</body>
</html>
"""


def door_page(
    title: str = "Sign in", said: str = "", *, name: str = "", next_: str = "/", provider: str = ""
) -> str:
    """A page to sign in on. `said`: why it was not yet; `name`: as typed before; `next_`: where to go then."""
    href = f"/login/provider?{urlencode({'next': next_})}"
    button = f'<a class="choice provider" href="{escape(href)}">Sign in with {escape(provider)}</a>'
    return _PAGE.format(
        title=escape(title),
        said=f'<p class="said" role="alert">{escape(said)}</p>' if said else "",
        next=escape(next_),
        name=escape(name),
        focus_name="" if name else " autofocus",
        focus_password=" autofocus" if name else "",
        provider=button if provider else "",
        link_open=" open" if not provider and not name and said else "",
    )
