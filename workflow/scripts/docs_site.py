"""What MkDocs does beside its own for the site (mkdocs.yml): equations as MathML, links out of docs/ into the checkout.

On GitHub both work as they are written.
"""

import os
import re
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.blockprocessors import BlockProcessor
from markdown.inlinepatterns import InlineProcessor

INLINE = r"(?<![\\$\w])\$(?![\s$])([^$\n]+?)(?<!\s)\$(?![\w$])"
FETCHED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)\s#]+)(#[^)\s]*)?\)")


def mathml(latex: str, display: str = "inline") -> str:
    """An equation as MathML.

    Raises
    ------
    ValueError: a command that the converter does not know.
    """
    found: str = convert(latex, display=display)
    if "\\" in found:
        raise ValueError(f"no MathML for {latex!r}")
    return found


class _Inline(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:  # noqa: ARG002
        return self.md.htmlStash.store(mathml(m.group(1))), m.start(0), m.end(0)


class _Display(BlockProcessor):
    def test(self, parent: Any, block: str) -> bool:  # noqa: ARG002
        return block.startswith("$$") and block.rstrip().endswith("$$")

    def run(self, parent: Any, blocks: list[str]) -> None:
        latex = blocks.pop(0).strip().strip("$").strip()
        found = ElementTree.SubElement(parent, "div", {"class": "equation"})
        found.text = self.parser.md.htmlStash.store(mathml(latex, "block"))


class Equations(Extension):
    """``$…$`` in a line, ``$$…$$`` as a block of its own."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.inlinePatterns.register(_Inline(INLINE, md), "equation", 185)  # behind code, before escapes
        md.parser.blockprocessors.register(_Display(md.parser), "equations", 75)


def on_config(config: Any) -> Any:
    config.markdown_extensions.append(Equations())
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Links to files outside docs/ lead from site/ beside it to the same files.

    Raises
    ------
    FileNotFoundError: there is no such file.
    """
    here = os.path.dirname(page.file.abs_src_path)

    def linked(found: re.Match[str]) -> str:
        text, target, anchor = found.group(1), found.group(2), found.group(3) or ""
        path = os.path.normpath(os.path.join(here, target))
        if path.startswith(config.docs_dir + os.sep):
            return found.group(0)
        if not os.path.exists(path):
            raise FileNotFoundError(f"{page.file.src_path} links to {target}, which is not there")
        return f'<a href="{target}{anchor}">{text}</a>'

    return LINK.sub(linked, markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """The page as it is.

    Raises
    ------
    ValueError: it would fetch something.
    """
    if found := FETCHED.search(output):
        raise ValueError(f"{page.file.src_path} fetches {found.group(0)}")
    return output
