"""The service's databases: the cluster that its pg-status monitors, and one table."""

import os

from sqlalchemy import String, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pgstatus.client import AsyncPgStatusClient
from pgstatus.sqlalchemy import PgStatusCluster, new_non_ctx_atomic_session

PG_STATUS_URL = os.environ.get("PG_STATUS_URL", "http://127.0.0.1:8000")
PASSWORD = os.environ.get("PGPASSWORD", "postgres")


def create_engine(host: str, port: int) -> AsyncEngine:
    """The engine for a host named by pg-status. A lost host is noticed within two seconds."""
    return create_async_engine(
        f"postgresql+asyncpg://postgres:{PASSWORD}@{host}:{port}/postgres",
        connect_args={"timeout": 2, "command_timeout": 2},
        # After a crash and restart of a host, its pool contains dead connections.
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=10,
        pool_timeout=2,
    )


def create_session_maker(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine, expire_on_commit=False)


cluster = PgStatusCluster(AsyncPgStatusClient(PG_STATUS_URL), create_engine, create_session_maker)
master = cluster.master()
replica = cluster.replica(lag_ms=10_000)


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "example_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(String(200))


async def create_tables() -> None:
    """Create the table if it is missing; several workers may do so at the same time."""
    async with new_non_ctx_atomic_session(master) as session:
        await session.execute(text("SELECT pg_advisory_xact_lock(7)"))
        await (await session.connection()).run_sync(Base.metadata.create_all)
