"""The terms on which we talk to Alpaca. Nothing here needs its SDK."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from finagent.domain.errors import BadInput

PAPER_URL, LIVE_URL = "https://paper-api.alpaca.markets", "https://api.alpaca.markets"
DATA_URL, STREAM_URL = "https://data.alpaca.markets", "wss://stream.data.alpaca.markets"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PAPER_PREFIX = "PA"  # of an account's number
PAPER_KEYS, LIVE_KEYS = "PK", "AK"  # how the id of a key begins


@dataclass(frozen=True, slots=True)
class AlpacaPolicy:
    """`account_id` is the number of the account that may be traded. A request that got no answer can arrive for `settle_seconds`
    more. Orders that change were submitted at most `lookback_hours` before: Alpaca selects by that, not by the change.
    `deduplicates_forever`: what Alpaca is known to do with used ids."""

    account_id: str
    live: bool
    deduplicates_forever: bool
    settle_seconds: float
    lookback_hours: float

    def __post_init__(self) -> None:
        if self.account_id.startswith(PAPER_PREFIX) is self.live:
            raise BadInput(
                f"broker.account_id is {self.account_id}: the number of a paper account begins with {PAPER_PREFIX}, "
                "that of a live one does not"
            )


@dataclass(frozen=True, slots=True)
class HttpPolicy:
    """Bounds of one HTTP exchange: seconds to connect, between two bytes and in all; bytes of an answer."""

    connect_seconds: float
    read_seconds: float
    deadline_seconds: float
    answer_bytes_max: int


@dataclass(frozen=True, slots=True)
class Keys:
    """What Alpaca knows us by; neither is ever printed."""

    key_id: str = field(repr=False)
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RestPolicy:
    """Bounds of the calls at `url`, which Alpaca has at `official_url`. `requests_per_minute` is the broker's limit, of which
    `share` is ours and `reserved_requests` of that wait for cancels and look-ups. `breaker_failures` calls in a row without an
    answer open the breaker for `breaker_seconds`."""

    url: str
    live: bool
    official_url: str
    http: HttpPolicy
    threads: int
    reserved_threads: int
    requests_per_minute: int
    share: float
    reserved_requests: int
    read_attempts: int
    retry_wait_seconds: float
    breaker_failures: int
    breaker_seconds: float

    def __post_init__(self) -> None:
        require_host(self.url, self.official_url, live=self.live)
        if self.reserved_requests + 1 > self.requests_per_minute * self.share:
            raise BadInput(
                f"alpaca.reserved_requests is {self.reserved_requests}: nothing is left of "
                f"{self.requests_per_minute * self.share:g} requests a minute"
            )


def require_keys(keys: Keys, *, live: bool) -> None:
    """Alpaca's keys tell what they open: PK... a paper account, AK... a live one. Raises BadInput for those of the other kind."""
    if keys.key_id.startswith(LIVE_KEYS if not live else PAPER_KEYS):
        kind, other = ("live", "paper") if live else ("paper", "live")
        raise BadInput(
            f"APCA_API_KEY_ID is that of a {other} account, and orchestrate.mode is {kind}: use the keys of a {kind} one"
        )


def is_loopback(url: str) -> bool:
    """Whether it is a simulator on this machine."""
    return urlsplit(url).hostname in LOOPBACK


def require_host(url: str, official_url: str, *, live: bool) -> None:
    """Only at Alpaca, or without real money at a simulator on this machine. Raises BadInput for any other host."""
    parts = urlsplit(url)
    loopback = is_loopback(url)
    if url.endswith("/") or (parts.scheme != "https" and not (loopback and parts.scheme == "http")):
        raise BadInput(f"alpaca.url is {url}: it must be https://HOST without a path (http:// only for this machine)")
    if parts.hostname != urlsplit(official_url).hostname and (live or not loopback):
        raise BadInput(f"alpaca.url is {url}: {'live' if live else 'paper'} trading is at {official_url}")
