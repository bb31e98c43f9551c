"""`python -m experiments.catalogue`: the pages anew, and a picture of every cell that has none."""

from __future__ import annotations

import argparse

from experiments.catalogue import pages
from experiments.catalogue.impulse import FEATURES, draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redraw", action="store_true", help="all pictures anew; a few minutes")
    redraw = parser.parse_args().redraw
    folder = pages.FOLDER / pages.PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {kind.__name__: kind for family in pages.families().values() for kind in family}
    for path in folder.glob("*.png"):
        if path.stem not in kinds:
            path.unlink()
    for name, kind in kinds.items():
        path = folder / f"{name}.png"
        if redraw or not path.exists():
            draw(pages.instance(kind, FEATURES), path, pages.shape_of(kind))
    made = pages.pages()
    for path in pages.FOLDER.glob("*.md"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (pages.FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
