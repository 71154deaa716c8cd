"""Pages and their parts by the templates beside this file: what a name or a config holds is text, never markup."""

import base64
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Picture:
    """An image inside a page.

    Args:
        section: where it stands in a comparison: samples, samplers, curves
        data: the bytes of its file
        caption: what it shows
        alternative: the same for those who cannot see it; by default the caption
        kind: png or gif
    """

    section: str
    data: bytes
    caption: str
    alternative: str = ""
    kind: str = "png"

    @property
    def source(self) -> str:
        """The image as an address that loads nothing."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode()}"


def render(template: str, **values: Any) -> str:
    """A template of this project with its values, each as text: escaped in .html, and in .md."""
    return environment().get_template(template).render(**values)


@cache
def environment() -> "Environment":
    """The one template engine; a value that a template names and nobody gives is an error."""
    import jinja2

    @jinja2.pass_eval_context
    def as_text(context: Any, value: Any) -> Any:
        markup = context.autoescape or isinstance(value, jinja2.Undefined) or hasattr(value, "__html__")
        return value if markup else plain(str(value))

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"], default=False),
        finalize=as_text,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["pieces"] = pieces
    return made


def pieces(words: str) -> list[str]:
    """Text in short pieces, between which a line may be broken: after a space, _, / or -, and within a long word."""
    return re.findall(r"[^\s_/-]{1,16}[\s_/-]{0,16}|[\s_/-]{1,16}", words)


def plain(words: str) -> str:
    """Text that Markdown takes as it is."""
    return "".join(f"\\{c}" if c in "|*_`[]<>\\" else c for c in words.replace("\n", " "))
