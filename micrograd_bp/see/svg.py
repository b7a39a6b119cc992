"""Pictures written as SVG by hand: readable on light and dark pages, without a program that renders."""

from __future__ import annotations

import html
import os

from micrograd_bp._engine import files

STYLE = """
.mgb-picture { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
.mgb-picture text { fill: #1f2328; }
.mgb-picture .quiet { fill: #59636e; }
.mgb-picture .back { fill: #ffffff; }
.mgb-picture .line { stroke: #d1d9e0; fill: none; }
.mgb-picture .plus { stroke: #c2410c; }
.mgb-picture .minus { stroke: #1f6fb5; }
.mgb-picture .unit { fill: #ffffff; stroke: #59636e; stroke-width: 1.5; }
.mgb-picture .delta { fill: #fdeee6; stroke: #d9622b; stroke-width: .6; }
@media (prefers-color-scheme: dark) {
  .mgb-picture text { fill: #f0f6fc; }
  .mgb-picture .quiet { fill: #9ba6b2; }
  .mgb-picture .back { fill: #151b23; }
  .mgb-picture .line { stroke: #3d444d; }
  .mgb-picture .plus { stroke: #ff9b63; }
  .mgb-picture .minus { stroke: #79b8ff; }
  .mgb-picture .unit { fill: #0d1117; stroke: #9ba6b2; }
  .mgb-picture .delta { fill: #4a2508; stroke: #ffa569; }
}
""".strip()


class SVGPicture:
    """A picture: `.svg` is its text, `.save(path)` writes it, and a notebook displays it."""

    def __init__(self, description: str, width: float, height: float, elements: list[str], title: str = "") -> None:
        top = 34.0 if title else 0.0
        head = f'<text x="16" y="24" font-size="15" font-weight="650">{escaped(title)}</text>' if title else ""
        size = f'viewBox="0 0 {width:.0f} {height + top:.0f}" width="{width:.0f}" height="{height + top:.0f}"'
        self.svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" class="mgb-picture" role="img" style="max-width:100%;height:auto" '
            f'aria-label="{escaped(description)}" {size}>\n<style>{STYLE}</style>\n'
            f'<rect class="back" width="100%" height="100%" rx="10"/>{head}\n'
            f'<g transform="translate(0 {top:.0f})">\n' + "\n".join(elements) + "\n</g>\n</svg>\n"
        )
        self._description = description

    def __repr__(self) -> str:
        return f"<Picture: {self._description}>"

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the SVG atomically; a missing folder is made. OSError: the message names the path."""
        files.write(path, self.svg, folders=True)


def escaped(text: str) -> str:
    """Text as SVG can hold it."""
    return html.escape("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))


def label(x: float, y: float, text: str, **attributes: str) -> str:
    """A text in a picture. In names of attributes, _ stands for -, and `class_` is `class`."""
    more = "".join(f' {name.strip("_").replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escaped(text)}</text>'
