"""Passwords and tokens in files."""

from pathlib import Path

from pgstatus.settings.files import read_text

MIN_TOKEN_LENGTH = 16


def read_secret(file: Path) -> str:
    """The text of a file without its final line end. OSError or ValueError with the reason."""
    return read_text(file).rstrip("\r\n")


def read_tokens(file: Path) -> tuple[bytes, ...]:
    """The bearer tokens in a file, one per line; with several, each is valid (for rotation).

    OSError or ValueError with the reason if the file cannot be used.
    """
    tokens = tuple(filter(None, map(str.strip, read_secret(file).splitlines())))
    if not tokens:
        raise ValueError(f"{file}: empty")
    for token in tokens:
        # What a header can carry; RFC 6750, section 2.1.
        if not token.isascii() or len(token.split()) > 1:
            raise ValueError(f"{file}: a token contains spaces or characters outside ASCII")
        if len(token) < MIN_TOKEN_LENGTH:
            raise ValueError(
                f"{file}: token too short (minimum {MIN_TOKEN_LENGTH} characters); "
                "create one with: openssl rand -hex 32"
            )
    return tuple(token.encode() for token in tokens)
