"""Fonts of the PDF: DejaVu Sans, which comes with matplotlib, so that every machine sets the same letters.

A character that it lacks (Chinese, Japanese, Korean, Thai ...) is looked for in the machine's own fonts. If none has it
the document is refused: an invoice with boxes for a name is no invoice.
"""

from functools import lru_cache
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from billing.documents.errors import DocumentError

FAMILY: Final = "DejaVu Sans"
_INVISIBLE: Final = frozenset("\u200b\u200c\u200d\u2060\ufeff\n\r\t")


def font_folder() -> Path:
    """Where FAMILY is."""
    return Path(mpl.get_data_path()) / "fonts" / "ttf"


@lru_cache(maxsize=256)
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # a broken or unreadable font of the machine is as good as none
        return frozenset()


def fonts_for(text: str) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Folders to search and further families, for all characters of the text; DocumentError if one has no font."""
    base = font_folder()
    missing = {char for char in text if char not in _INVISIBLE} - {
        chr(code) for code in _characters(str(base / "DejaVuSans.ttf"))
    }
    folders, families = [base], []
    for path in sorted(font_manager.findSystemFonts()) if missing else ():
        found = {char for char in missing if ord(char) in _characters(path)}
        if found:
            missing -= found
            folders.append(Path(path).parent)
            families.append(FT2Font(path).family_name)
        if not missing:
            break
    if missing:
        char = min(missing)
        raise DocumentError(
            f"no font on this machine has {char!r} (U+{ord(char):04X}): install one, such as the package fonts-noto-cjk"
        )
    return tuple(dict.fromkeys(folders)), tuple(dict.fromkeys(families))
