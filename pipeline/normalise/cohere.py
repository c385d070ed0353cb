"""Cohere: chat, embed and rerank bill `billed_units`, which are fewer than the `tokens` the model saw.

`cached_tokens` are part of `tokens`, not of the billed units, and change no bill. Source: cohere 7.3.1, types usage,
usage_billed_units, api_meta_billed_units (counts are typed as floats there).
"""

from pipeline.normalise.counts import Fields, Reading
from pipeline.normalise.result import INCONSISTENT, NO_USAGE, NOTHING, Classes


def billed(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """A usage or meta object with billed units in tokens. Search units, classifications, pages are refused."""
    del holder
    units = reading.section(usage, "billed_units")
    where = "billed_units."
    text = reading.optional(units, "input_tokens", where)
    output = reading.optional(units, "output_tokens", where)
    image = reading.optional(units, "image_tokens", where)
    named_text = reading.optional(units, "text_tokens", where)
    for name in ("search_units", "classifications", "pages"):
        if reading.count(units, name, where):
            reading.not_tokens(where + name)
    if image is None and reading.count(units, "images", where):
        reading.not_tokens(where + "images")
    if text is None and output is None and image is None and named_text is None:
        reading.reject(NO_USAGE, "billed_units has no count of tokens")
    input_, input_image = _input(reading, text, named_text, image or 0)
    return input_, 0, 0, 0, output or 0, 0, 0, 0, input_image, 0, 0


def _input(reading: Reading, whole: int | None, text: int | None, image: int) -> tuple[int, int]:
    """Text and image tokens. `input_tokens` may be the text alone or the sum; it must be one of the two."""
    if whole is None or (text is None and not image):
        return (text if whole is None else whole) or 0, image
    if text is None or whole == text:
        return whole, image
    if whole != text + image:
        reading.reject(INCONSISTENT, f"billed_units.input_tokens {whole} is not text {text} with image {image}")
    return text, image


def unbilled(reading: Reading, usage: Fields, holder: Fields) -> Classes:
    """Only the tokens that the model saw: what is billed stays unknown."""
    del usage, holder
    reading.reject(NO_USAGE, "billed_units is missing; tokens are what the model saw, not what is billed")
    return NOTHING
