"""Where quotes come from."""

from datetime import datetime
from typing import Protocol

from finagent.domain.bars import Quotes


class QuotePort(Protocol):
    """The best bid and ask of the symbols of a market, in its order."""

    async def quotes(self, at: datetime) -> Quotes:
        """The last ones known at an instant. Transient without a usable answer."""
        ...
