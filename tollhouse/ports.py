"""Ports on this machine."""

import errno
import socket

from tollhouse.errors import UserError

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def refuse_taken(port: int, option: str = "--port") -> None:
    """UserError, naming the option, if something listens on the port already; 0 means any and is fine."""
    if port == 0:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            raise UserError(f"port {port} is in use: choose another with {option}") from None


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; UserError says what is wrong with the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OverflowError:
        listener.close()
        raise UserError(f"port {port} is none: use 1 to 65535", code=2) from None
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is in use: choose another with --port") from None
        raise UserError(f"{host}:{port}: {error.strerror}") from None
    return listener
