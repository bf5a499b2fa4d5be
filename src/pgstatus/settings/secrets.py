"""Passwords and tokens in files."""

from pathlib import Path

_SHORTEST = 16


def read_secret(file: Path) -> str:
    """The text of a file, without the end of its last line. OSError and ValueError in words."""
    if not file.is_file():
        if not file.exists():
            raise OSError(f"{file} does not exist")
        # A pipe would hold up whoever reads it, and with it all the rest.
        raise OSError(f"{file} is no regular file")
    try:
        text = file.read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise OSError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file} is no text in UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{file} holds a zero byte")
    return text


def read_tokens(file: Path) -> tuple[bytes, ...]:
    """The bearer tokens in a file, one a line: while one is exchanged for another, both are good.

    OSError and ValueError say what is wrong with it.
    """
    tokens = tuple(filter(None, map(str.strip, read_secret(file).splitlines())))
    if not tokens:
        raise ValueError(f"{file} is empty; expected a token, one a line")
    for token in tokens:
        # What a header can carry; RFC 6750, section 2.1.
        if not token.isascii() or len(token.split()) > 1:
            raise ValueError(f"{file} holds a token that is not one word of ASCII characters")
        if len(token) < _SHORTEST:
            raise ValueError(
                f"{file} holds a token that can be guessed; expected at least {_SHORTEST} "
                "characters, as from: openssl rand -hex 32"
            )
    return tuple(token.encode() for token in tokens)
