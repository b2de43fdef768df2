"""What admins have added to the providers' catalogues."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, select

from moorage.model.errors import Conflict, NotFound
from moorage.model.offer import Offer, OfferKind
from moorage.store.engine import Database
from moorage.store.tables import offers


class Offers:
    """`store.offers`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> list[Offer]:
        """All of them, in the order in which they came."""
        rows = await self._database.read(
            lambda c: c.execute(select(offers).order_by(offers.c.id)).all()
        )
        return [Offer(row.provider, OfferKind(row.kind), row.name, row.detail) for row in rows]

    async def add(self, offer: Offer) -> Offer:
        """Raises Conflict where there is one of that kind and name."""
        same = _same(offer.provider, offer.kind, offer.name)

        def work(connection: Connection) -> None:
            if connection.execute(select(offers.c.id).where(*same)).first() is not None:
                raise Conflict(
                    f"Provider {offer.provider} has a {offer.kind} {offer.name} already."
                )
            connection.execute(
                offers.insert().values(
                    provider=offer.provider,
                    kind=offer.kind.value,
                    name=offer.name,
                    detail=dict(offer.detail),
                )
            )

        await self._database.write(work)
        return offer

    async def remove(self, provider: str, kind: OfferKind, name: str) -> None:
        """Raises NotFound. Clusters that were made with it keep what they have."""

        def work(connection: Connection) -> None:
            if connection.execute(offers.delete().where(*_same(provider, kind, name))).rowcount:
                return
            raise NotFound(f"Provider {provider} has no {kind} {name} that an admin added.")

        await self._database.write(work)


def _same(provider: str, kind: OfferKind, name: str) -> list[ColumnElement[bool]]:
    return [
        offers.c.provider == provider,
        offers.c.kind == kind.value,
        offers.c.name == name,
    ]
