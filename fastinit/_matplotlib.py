"""What the pictures of all parts of the package share."""


def as_it_is(text: str) -> str:
    """Return a text that matplotlib shows as it is: two dollars would be a formula."""
    return text.replace("$", r"\$")
