"""What the client can refuse. Each message says what is wrong and what to do."""


class ClientError(Exception):
    """Base of every error that the client raises on purpose."""


class InvalidEventError(ClientError, ValueError):
    """The event is not one that can be sent: a blank tenant, an unprintable id, a value that is not JSON."""


class EventTooLargeError(InvalidEventError):
    """The event alone is larger than one Kafka message may be."""


class SpoolFullError(ClientError):
    """The disk spool has reached its bound: the broker was away too long, or the limit is too small.

    The event was not accepted. The caller decides: refuse the next request, or serve it unmetered.
    """


class SpoolLockedError(ClientError):
    """Another living process holds this spool directory."""


class PublisherClosedError(ClientError):
    """The publisher was closed, or belongs to the process that this one was forked from."""


class GateUnavailableError(ClientError):
    """The gate cannot be asked, and the fail mode allows no call without it. Answer 503."""


class GateRefusedError(ClientError):
    """The gate does not take what this proxy sent: its own token, or a malformed request. No use to repeat."""
