// The README's tour by a generated client. Prints what it found as JSON; any refusal ends it.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const [, , address, key] = process.argv;
if (!address || !key) throw new Error("usage: tour ADDRESS KEY");
const client = createClient<paths>({ baseUrl: address, headers: { Authorization: `Bearer ${key}` } });
const day = new Date().toISOString().slice(0, 10);
const start = `${day}T00:00:00Z`;

function told<T>(answer: { data?: T; error?: unknown }): T {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

const member = "tess";
told(await client.POST("/api/v1/members", { body: { external_id: member, joined_at: start, country: "DE" } }));
const order = told(
  await client.POST("/api/v1/orders", {
    params: { query: {} },
    body: {
      external_id: "ts-1", member, paid_at: start, currency: "GBP", amount_minor: 16000,
      lines: [
        { external_id: "cups", units: 4, amount_minor: 8000 },
        { external_id: "teapots", units: 2, amount_minor: 8000 },
      ],
    },
  }),
);
told(
  await client.PATCH("/api/v1/members/{member}", { params: { path: { member } }, body: { status: "suspended" } }),
);
const patched = told(
  await client.PATCH("/api/v1/members/{member}", { params: { path: { member } }, body: { country: "FR" } }),
);
told(await client.PATCH("/api/v1/members/{member}", { params: { path: { member } }, body: { status: "active" } }));
told(
  await client.POST("/api/v1/members/{member}/points/{wallet}/redemptions", {
    params: { path: { member, wallet: "points" }, query: {}, header: { "Idempotency-Key": "ts-mug" } },
    body: { points: 50, reason: "A mug" },
  }),
);
told(
  await client.POST("/api/v1/refunds", {
    params: { query: {} },
    body: {
      external_id: "ts-back", member, order: "ts-1", refunded_at: new Date().toISOString(), currency: "GBP",
      amount_minor: 8000,
      lines: [
        { external_id: "cups", order_line: "cups", units: 2, amount_minor: 4000 },
        { external_id: "teapots", order_line: "teapots", units: 1, amount_minor: 4000 },
      ],
    },
  }),
);
const points = told(
  await client.GET("/api/v1/members/{member}/points", { params: { path: { member } } }),
);
const refused = await client.POST("/api/v1/orders", {
  params: { query: {} },
  body: { external_id: "ts-2", member: "nobody", paid_at: start, currency: "GBP", amount_minor: 1 },
});
const code: "unknown_member" | string = refused.error ? refused.error.code : "";
console.log(
  JSON.stringify({
    earned: order.effect, patched, available: points.wallets[0]?.balance.available, refused: code,
  }),
);
