"""The service's databases: the cluster that its pg-status monitors, and one table."""

import os

from sqlalchemy import Engine, String, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from pgstatus.client import PgStatusClient
from pgstatus.sqlalchemy.sync import PgStatusCluster, new_non_ctx_atomic_session

PG_STATUS_URL = os.environ.get("PG_STATUS_URL", "http://127.0.0.1:8000")
PASSWORD = os.environ.get("PGPASSWORD", "postgres")


def engine_for(host: str, port: int) -> Engine:
    """The engine for a host named by pg-status."""
    return create_engine(
        f"postgresql+psycopg://postgres:{PASSWORD}@{host}:{port}/postgres",
        # A host that has lost its network is noticed within a few seconds.
        connect_args={
            "connect_timeout": 2,
            "tcp_user_timeout": 2000,
            "keepalives_idle": 2,
            "keepalives_interval": 1,
            "keepalives_count": 2,
        },
        # After a crash and restart of a host, its pool contains dead connections.
        pool_pre_ping=True,
        pool_timeout=2,
    )


def session_maker_for(engine: Engine) -> sessionmaker[Session]:
    return sessionmaker(engine, expire_on_commit=False)


cluster = PgStatusCluster(PgStatusClient(PG_STATUS_URL), engine_for, session_maker_for)
master = cluster.master()
replica = cluster.replica(lag_ms=10_000)


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "example_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(String(200))


def create_tables() -> None:
    """Create the table if it is missing; several workers may do so at the same time."""
    with new_non_ctx_atomic_session(master) as session:
        session.execute(text("SELECT pg_advisory_xact_lock(7)"))
        Base.metadata.create_all(session.connection())
