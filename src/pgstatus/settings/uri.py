"""``postgresql://`` URIs, as libpq reads them."""

import psycopg
from psycopg.conninfo import conninfo_to_dict


def parse_uri(uri: str) -> dict[str, str]:
    """A ``postgresql://`` URI as libpq understands it → connection parameters.

    ValueError, without the URI in its text, where libpq does not.
    """
    try:
        return {key: str(value) for key, value in conninfo_to_dict(uri).items()}
    except psycopg.ProgrammingError:
        # libpq's own words repeat the URI, and with it a password.
        raise ValueError("libpq cannot read it") from None
