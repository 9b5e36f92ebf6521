"""Small pictures for buttons: lines on a field of 24 by 24, drawn in the colour of the text."""

PATHS = {
    "file": "M6 3h8l4 4v14H6zM14 3v4h4",
    "again": "M20 11a8 8 0 1 0-2.3 6.2M20 5v6h-6",
    "continue": "M5 5v14M9 12h11M15 7l5 5-5 5",
    "copy": "M9 9h11v11H9zM15 9V4H4v11h5",
    "delete": "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
    "dislike": "M8 13l4 7c1.6 0 2.4-1.2 2-2.8L13.2 14H18.5c1.2 0 2-1 1.8-2L19 5.7C18.8 4.7 18 4 17 4H8zM4 4h4v9H4z",
    "edit": "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
    "fork": "M6 4v9a4 4 0 0 0 4 4h8M14 13l4 4-4 4M6 9a4 4 0 0 0 4-4h8M14 1l4 4-4 4",
    "like": "M8 11l4-7c1.6 0 2.4 1.2 2 2.8L13.2 10H18.5c1.2 0 2 1 1.8 2l-1.3 6.3c-.2 1-1 1.7-2 1.7H8zM4 11h4v9H4z",
    "menu": "M4 6h16M4 12h16M4 18h16",
    "more": "M5 12h.01M12 12h.01M19 12h.01",
    "new": "M12 5v14M5 12h14",
    "choose": "M6 9l6 6 6-6",
    "settings": "M4 7h9M17 7h3M4 17h3M11 17h9M13 7a2 2 0 1 0 4 0 2 2 0 0 0-4 0zM7 17a2 2 0 1 0 4 0 2 2 0 0 0-4 0z",
    "speak": "M4 9v6h4l5 4V5L8 9zM16 9a4 4 0 0 1 0 6M18.5 6a8 8 0 0 1 0 12",
    "undo": "M9 7L4 12l5 5M4 12h11a5 5 0 0 1 0 10h-3",
}


def icon(name: str) -> str:
    """The picture, which screen readers pass over: its button has a name."""
    return f'<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d="{PATHS[name]}"/></svg>'
