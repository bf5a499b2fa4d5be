"""Statements sent with the driver's own connection, without SQLAlchemy's transaction around them.

psycopg and psycopg2 are distinguished by their interface, so neither has to be installed.
"""

from typing import Any

from pgstatus.sqlalchemy.driver import in_transaction


def command_tag(driver: Any, statements: str) -> str:
    """Run statements without parameters in one round trip; the command tag of the last one."""
    with driver.cursor() as cursor:
        if not hasattr(driver, "pgconn"):
            cursor.execute(statements)
            return str(cursor.statusmessage)
        cursor.execute(statements, prepare=False)
        while cursor.nextset():
            pass
        return str(cursor.statusmessage)


def row(driver: Any, query: str) -> tuple[Any, ...]:
    """The first row of a query, in one round trip that begins no transaction."""
    if driver.autocommit or in_transaction(driver):
        return _row(driver, query)
    driver.autocommit = True  # a flag of the client: no round trip
    try:
        return _row(driver, query)
    finally:
        driver.autocommit = False


def _row(driver: Any, query: str) -> tuple[Any, ...]:
    with driver.cursor() as cursor:
        cursor.execute(query)
        return tuple(cursor.fetchone())
