"""The page for whoever is outside: plain HTML, since Dash is inside."""

from html import escape

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · IndustrialMind</title>
<link rel="stylesheet" href="/assets/room.css">
</head>
<body class="door">
<main>
<p class="brand">IndustrialMind</p>
<h1>{title}</h1>
<p>{said}</p>
<p>To get in, run this where the plant runs, and open the link that it prints:</p>
<pre><code>industrialmind login-link</code></pre>
</main>
</body>
</html>
"""


def door_page(title: str, said: str) -> str:
    """A page that says why there is no way in, and how to find one."""
    return _PAGE.format(title=escape(title), said=escape(said))
