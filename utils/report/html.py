"""HTML pages from the templates. Every value is escaped: names of files may be hostile."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from utils.report.text import DASH


def render(template: str, **values: object) -> str:
    """The text of a page that needs no server and no network.

    Args:
        template: file name in ``templates``.
        values: that it shows. Only the template itself is markup.

    Returns:
        Text that can be encoded as UTF-8: bytes of a name that are no text are written out.
    """
    page = _environment().get_template(template).render(values)
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def file_url(name: str) -> str:
    """The relative address of a file, also if its name is not UTF-8."""
    return quote(name.encode("utf-8", "surrogateescape"), safe="/")


def shown(value: object) -> str:
    """A value as a reader would write it, not as Python does."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(shown, value)) if isinstance(value, (list, tuple)) else str(value)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"file_url": file_url, "shown": shown}
    # The data in a page stay ASCII: a name that is not UTF-8 comes back from them unchanged.
    environment.policies["json.dumps_kwargs"] = {
        "ensure_ascii": True,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    return environment
