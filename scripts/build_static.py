"""Builds static/dist/icons.svg: one sprite with the icons named in static/icons.txt, taken from @tabler/icons.

Run after `npm ci`. Usage: build_static.py [NODE_MODULES]
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ROOT / "static" / "icons.txt"
SPRITE = ROOT / "static" / "dist" / "icons.svg"

# the invisible square that every Tabler icon starts with
BOUNDING_BOX = re.compile(r'<path stroke="none" d="M0 0h24v24H0z" fill="none"\s*/>')


def symbol(name: str, source: str) -> str:
    """The icon as a <symbol>: paths only, so that stroke and size come from the place that uses it."""
    body = source[source.index(">", source.index("<svg")) + 1 : source.rindex("</svg>")]
    body = " ".join(BOUNDING_BOX.sub("", body).split())
    return f'<symbol id="{name}" viewBox="0 0 24 24">{body}</symbol>'


def build(node_modules: Path) -> int:
    """Writes the sprite and says how many icons it holds. A name without an icon stops the build."""
    outline = node_modules / "@tabler" / "icons" / "icons" / "outline"
    if not outline.is_dir():
        sys.exit(f"No icons at {outline}. Run npm ci first.")
    names = NAMES.read_text().split()
    if unknown := [name for name in names if not (outline / f"{name}.svg").is_file()]:
        sys.exit(f"static/icons.txt names icons that Tabler does not have: {', '.join(unknown)}")
    symbols = "\n".join(symbol(name, (outline / f"{name}.svg").read_text()) for name in names)
    SPRITE.parent.mkdir(parents=True, exist_ok=True)
    SPRITE.write_text(f'<svg xmlns="http://www.w3.org/2000/svg">\n{symbols}\n</svg>\n')
    return len(names)


if __name__ == "__main__":
    count = build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "node_modules")
    print(f"static/dist/icons.svg: {count} icons")
