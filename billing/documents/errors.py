"""What can be wrong with a document that is asked for."""


class DocumentError(ValueError):
    """The document cannot be made; the text says why and what to do."""
