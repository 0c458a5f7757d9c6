// A conversation of Alpaca's own TypeScript SDK with the server at the URL given: prints what it understood as one JSON document.
import { createRequire } from "node:module";

const [folder, url] = process.argv.slice(2);
const { Alpaca, marketData, trading } = createRequire(folder + "/")("@alpacahq/alpaca-trade-api");
const keys = { keyId: "PKSIMULATOR", secret: "simulator", basePath: url, retry: { maxRetries: 0 } };
const sdk = (kind, api) => new kind[api](new kind.Configuration(keys));
const orders = sdk(trading, "OrdersApi");
const positions = sdk(trading, "PositionsApi");
const heard = { updates: [], bars: [] };
const said = {};
const alpaca = new Alpaca({ keyId: keys.keyId, secret: keys.secret });

const advance = (at) =>
  fetch(`${url}/control/advance`, { method: "POST", body: JSON.stringify({ at: `2008-10-01T13:${at}:00Z` }) });
const until = async (done) => {
  for (let tries = 0; tries < 400 && !done(); tries += 1) await new Promise((again) => setTimeout(again, 5));
};
const listeners = async () => (await (await fetch(`${url}/control/clock`)).json()).listeners;
const listening = async (stream, subscribe, count) => {
  stream.onConnect(() => subscribe(stream));
  stream.connect();
  while ((await listeners()) < count);
};

const updates = alpaca.trading.stream({ url: url.replace("http", "ws") + "/stream" });
updates.onTradeUpdate((update) => heard.updates.push(`${update.event} ${update.order.symbol}`));
await listening(updates, (stream) => stream.subscribeTradeUpdates(), 1);
const bars = alpaca.marketData.stockStream({ feed: "iex", url: url.replace("http", "ws") + "/v2/iex" });
bars.onBar((bar) => heard.bars.push(`${bar.symbol} ${bar.close}`));
await listening(bars, (stream) => stream.subscribeForBars(["AAPL"]), 2);

await advance(31);
said.account = (await sdk(trading, "AccountsApi").getAccount()).accountNumber;
said.clock = (await sdk(trading, "ClockApi").legacyClock()).isOpen;
const placed = await orders.postOrder({
  postOrderRequest: {
    symbol: "AAPL", qty: "10", side: "buy", type: "market", timeInForce: "day", orderClass: "bracket", clientOrderId: "second",
    takeProfit: { limitPrice: "110" }, stopLoss: { stopPrice: "95" },
  },
});
said.placed = [placed.status, placed.legs.map((leg) => leg.status)];
said.again = await orders
  .postOrder({ postOrderRequest: { symbol: "AAPL", qty: "1", side: "buy", type: "market", timeInForce: "day", clientOrderId: "second" } })
  .catch(async (error) => [error.status ?? error.response?.status, error.code]);
await advance(32);
said.filled = (await orders.getOrderByClientOrderId({ clientOrderId: "second" })).status;
said.position = (await positions.getOpenPosition({ symbolOrAssetId: "AAPL" })).qty;
said.cancelled = (await orders.deleteAllOrders()).map((item) => item.status);
await advance(33);
said.closed = (await positions.deleteAllOpenPositions({})).map((item) => item.status);
await advance(34);
said.left = (await positions.getAllOpenPositions()).length;
const history = await sdk(marketData, "StockApi").stockBars({ symbols: "AAPL", timeframe: "1Min", limit: 2 });
said.history = Object.values(history.bars)[0].length;
said.more = history.nextPageToken !== null;
await until(() => heard.updates.length >= 7 && heard.bars.length >= 4);
console.log(JSON.stringify({ ...said, ...heard }));
process.exit(0);
