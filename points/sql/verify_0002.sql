-- Everything that can be wrong in the ledger of a range of accounts, one row per finding. Reads only.
-- Each table is narrowed to the range by itself: a join alone lets the planner read all of it for every range.
CREATE OR REPLACE FUNCTION points_verify(p_first_account_id bigint, p_last_account_id bigint)
RETURNS TABLE (account_id bigint, seq int, problem text, detail text) LANGUAGE sql STABLE SET work_mem = '128MB' AS $$
WITH row_bytes AS MATERIALIZED (
    SELECT id, id AS txn, points_bytes(t) AS bytes FROM points_ledgertransaction t WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
    UNION ALL
    SELECT id, transaction_id, points_bytes(e) FROM points_ledgerentry e WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
    UNION ALL
    SELECT id, transaction_id, points_bytes(l) FROM points_lot l WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
    UNION ALL
    SELECT id, transaction_id, points_bytes(a) FROM points_lotallocation a WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
    UNION ALL
    SELECT id, transaction_id, points_bytes(a) FROM points_accrual a WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
    UNION ALL
    SELECT id, transaction_id, points_bytes(r) FROM points_accrualreturn r WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
    UNION ALL
    SELECT id, transaction_id, points_bytes(k) FROM points_accrualcorrection k WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
), chained AS (
    SELECT c.txn, t.hash, sha256(coalesce(lag(t.hash) OVER account, points_no_hash()) || c.content) AS expected,
        c.txn = max(c.txn) OVER (PARTITION BY c.txn >> 24) AS is_last
    FROM (SELECT txn, string_agg(bytes, '' ORDER BY id) AS content FROM row_bytes GROUP BY txn) c
    LEFT JOIN points_ledgertransaction t ON t.id = c.txn AND t.id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
    WINDOW account AS (PARTITION BY c.txn >> 24 ORDER BY c.txn)
), ends AS (
    SELECT id >> 24 AS account_id, max(id) & x'ffffff'::int AS seq FROM row_bytes GROUP BY 1
), numbered AS (
    SELECT id, lag(id, 1, id >> 24 << 24) OVER (PARTITION BY id >> 24 ORDER BY id) AS previous FROM row_bytes
), own AS (
    SELECT id >> 24 AS account_id, min(member_id) AS member_id, min(wallet_id) AS wallet_id,
        max(effective_at) AS last_effective_at
    FROM points_ledgertransaction WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int GROUP BY 1
), sums AS (
    SELECT e.id >> 24 AS account_id,
        sum(e.points * ((to_bucket = 1)::int - (from_bucket = 1)::int)) AS available,
        sum(e.points * ((to_bucket = 2)::int - (from_bucket = 2)::int)) AS pending,
        sum(e.points * ((to_bucket = 3)::int - (from_bucket = 3)::int)) AS held,
        sum(e.points * ((to_bucket = 4)::int - (from_bucket = 4)::int)) AS debt,
        -- Earned: what came in, less additions that were reversed. Deductions and their reversals do not count.
        sum(e.points * ((from_bucket = 11 AND t.kind <> 6)::int - (to_bucket = 11 AND t.kind = 6)::int)) AS earned,
        sum(e.points * ((to_bucket = 12)::int - (from_bucket = 12)::int)) AS redeemed
    FROM points_ledgerentry e
    LEFT JOIN points_ledgertransaction t ON t.id = e.transaction_id AND t.id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
    WHERE e.id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int GROUP BY 1
), running AS (
    SELECT id, bucket, after,
        sum(change) OVER (PARTITION BY id >> 24, bucket ORDER BY id) AS expected
    FROM points_ledgerentry,
        LATERAL (VALUES (from_bucket, -points, from_balance_after), (to_bucket, points, to_balance_after))
            AS side (bucket, change, after)
    WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int AND bucket <= 4
), taken AS (
    SELECT lot_id, sum(points) AS points FROM points_lotallocation
    WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int GROUP BY 1
), vested AS (
    SELECT source_id AS lot_id FROM points_ledgertransaction WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int AND kind = 8
), lots AS (
    -- The entry of its birth follows a lot.
    SELECT l.id, l.member_id, l.available_at, l.expires_at, l.points - coalesce(t.points, 0) AS remaining,
        coalesce(e.to_bucket = 2, false) AND v.lot_id IS NULL AS is_pending
    FROM points_lot l
    LEFT JOIN taken t ON t.lot_id = l.id
    LEFT JOIN points_ledgerentry e ON e.id = l.id + 1 AND e.id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
    LEFT JOIN vested v ON v.lot_id = l.id
    WHERE l.id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
), open_lots AS MATERIALIZED (
    SELECT * FROM points_lotbalance WHERE lot_id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
), open_sums AS (
    SELECT lot_id >> 24 AS account_id, coalesce(sum(remaining) FILTER (WHERE NOT is_pending), 0) AS available,
        coalesce(sum(remaining) FILTER (WHERE is_pending), 0) AS pending,
        min(CASE WHEN is_pending THEN available_at ELSE expires_at END) AS due_at
    FROM open_lots GROUP BY 1
), held AS MATERIALIZED (
    -- Every hold, and whatever names it: a capture or a release as its source, points given back as what they reverse.
    SELECT CASE kind WHEN 3 THEN id WHEN 12 THEN reverses_id ELSE source_id END AS hold_id, id, kind, member_id,
        wallet_id, key_digest
    FROM points_ledgertransaction WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int AND kind IN (3, 4, 5, 12)
), held_points AS (
    -- The first entry of each is the move itself, a repayment of debt may follow it.
    SELECT hold_id, coalesce(sum(e.points) FILTER (WHERE kind = 3), 0) AS points,
        coalesce(sum(e.points) FILTER (WHERE kind = 4), 0) AS captured,
        coalesce(sum(e.points) FILTER (WHERE kind = 5), 0) AS released,
        coalesce(sum(e.points) FILTER (WHERE kind = 12), 0) AS returned
    FROM held h JOIN points_ledgerentry e ON e.transaction_id = h.id AND e.to_bucket <> 4
    WHERE e.id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int GROUP BY 1
), hold_rows AS MATERIALIZED (
    SELECT * FROM points_hold WHERE transaction_id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
), held_lots AS (
    -- What a hold took of a lot, less what has come back to it. Repayments of debt on the way are positive: left out.
    SELECT h.hold_id, m.lot_id, sum(m.points) AS points
    FROM held h JOIN points_lotallocation m ON m.transaction_id = h.id AND (h.kind = 3 OR m.points < 0)
    WHERE m.id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int GROUP BY 1, 2
), held_out AS (
    SELECT hold_id, sum(points) AS points, min(points) AS lowest FROM held_lots GROUP BY 1
), asked AS (
    -- Whatever changed what stands of an accrual after it, in order.
    SELECT accrual_id, id, NULL::bigint AS points, returned, whole, -points_due AS change FROM points_accrualreturn
    WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
    UNION ALL
    SELECT accrual_id, id, points, returned, whole, points_added - points_due FROM points_accrualcorrection
    WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
), asked_of AS (
    SELECT x.*, a.points AS given, coalesce(sum(change) OVER (PARTITION BY accrual_id ORDER BY x.id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS changed,
        count(x.points) OVER (PARTITION BY accrual_id ORDER BY x.id) AS corrections
    FROM asked x JOIN points_accrual a ON a.id = x.accrual_id
    WHERE a.id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
), stood AS (
    SELECT id, points IS NULL AS is_return, change, given + changed AS stands,
        points_left(coalesce(max(points) OVER (PARTITION BY accrual_id, corrections), given), returned, whole) AS should_stand
    FROM asked_of
)
SELECT txn >> 24, (txn & x'ffffff'::int)::int, 'chain',
    CASE WHEN hash IS NULL THEN 'rows without their transaction' ELSE 'the hash does not cover the rows and the hash before' END
FROM chained WHERE hash IS DISTINCT FROM expected
UNION ALL
SELECT id >> 24, (previous & x'ffffff'::int)::int + 1, 'missing',
    format('%s ledger row(s) missing before seq %s', id - previous - 1, id & x'ffffff'::int)
FROM numbered WHERE id <> previous + 1
UNION ALL
SELECT a.id, a.seq, 'head', 'the account does not end with its last transaction'
FROM points_account a
LEFT JOIN chained c ON c.txn >> 24 = a.id AND c.is_last
LEFT JOIN ends ON ends.account_id = a.id
WHERE a.id BETWEEN p_first_account_id AND p_last_account_id
    AND (a.head_hash <> coalesce(c.hash, points_no_hash())
        OR a.seq <> coalesce(ends.seq, 0))
UNION ALL
SELECT e.account_id, e.seq::int, 'head', 'there is no account of these rows'
FROM ends e LEFT JOIN points_account a ON a.id = e.account_id AND a.id BETWEEN p_first_account_id AND p_last_account_id
WHERE a.id IS NULL
UNION ALL
SELECT a.id, NULL, 'account', format('it says member %s, wallet %s, last at %s; its transactions: %s, %s, %s',
    a.member_id, a.wallet_id, a.last_effective_at, o.member_id, o.wallet_id, o.last_effective_at)
FROM points_account a LEFT JOIN own o ON o.account_id = a.id
WHERE a.id BETWEEN p_first_account_id AND p_last_account_id
    AND (a.last_effective_at IS DISTINCT FROM o.last_effective_at OR (a.member_id, a.wallet_id) <> (o.member_id, o.wallet_id))
UNION ALL
SELECT a.id, NULL, 'account', format('an open lot falls due at %s, the account waits for %s', o.due_at, a.next_due_at)
FROM points_account a JOIN open_sums o ON o.account_id = a.id
WHERE a.id BETWEEN p_first_account_id AND p_last_account_id AND o.due_at < coalesce(a.next_due_at, 'infinity')
UNION ALL
SELECT a.id, NULL, 'balance', format('account %s/%s/%s/%s/%s/%s, entries %s/%s/%s/%s/%s/%s',
    a.available, a.pending, a.held, a.debt, a.lifetime_earned, a.lifetime_redeemed,
    s.available, s.pending, s.held, s.debt, s.earned, s.redeemed)
FROM points_account a LEFT JOIN sums s ON s.account_id = a.id
WHERE a.id BETWEEN p_first_account_id AND p_last_account_id
    AND (a.available, a.pending, a.held, a.debt, a.lifetime_earned, a.lifetime_redeemed)
        <> (coalesce(s.available, 0), coalesce(s.pending, 0), coalesce(s.held, 0), coalesce(s.debt, 0),
            coalesce(s.earned, 0), coalesce(s.redeemed, 0))
UNION ALL
SELECT id >> 24, (id & x'ffffff'::int)::int, 'balance after', format('bucket %s says %s, the entries say %s', bucket, after, expected)
FROM running WHERE after IS DISTINCT FROM expected
UNION ALL
SELECT l.id >> 24, (l.id & x'ffffff'::int)::int, 'lot', format('%s left, the allocations say %s', coalesce(b.remaining, 0), l.remaining)
FROM lots l LEFT JOIN open_lots b ON b.lot_id = l.id WHERE coalesce(b.remaining, 0) <> l.remaining
UNION ALL
SELECT l.id >> 24, (l.id & x'ffffff'::int)::int, 'lot', 'open with another member, state or dates than it was born with'
FROM lots l JOIN open_lots b ON b.lot_id = l.id
WHERE (b.member_id, b.is_pending, b.available_at, b.expires_at)
    IS DISTINCT FROM (l.member_id, l.is_pending, l.available_at, l.expires_at)
UNION ALL
SELECT b.lot_id >> 24, (b.lot_id & x'ffffff'::int)::int, 'lot', 'open, but was never born'
FROM open_lots b LEFT JOIN lots l ON l.id = b.lot_id WHERE l.id IS NULL
UNION ALL
SELECT a.id, NULL, 'lots', format('open lots hold %s available and %s pending', o.available, o.pending)
FROM points_account a LEFT JOIN open_sums o ON o.account_id = a.id
WHERE a.id BETWEEN p_first_account_id AND p_last_account_id
    AND (a.available, a.pending) <> (coalesce(o.available, 0), coalesce(o.pending, 0))
UNION ALL
SELECT coalesce(r.transaction_id, p.hold_id) >> 24, (coalesce(r.transaction_id, p.hold_id) & x'ffffff'::int)::int, 'hold',
    format('it says %s/%s/%s/%s, the entries say %s/%s/%s/%s', r.points, r.captured, r.released, r.returned,
        p.points, p.captured, p.released, p.returned)
FROM hold_rows r FULL JOIN held_points p ON p.hold_id = r.transaction_id
WHERE (r.points, r.captured, r.released, r.returned) IS DISTINCT FROM (p.points, p.captured, p.released, p.returned)
UNION ALL
SELECT r.transaction_id >> 24, (r.transaction_id & x'ffffff'::int)::int, 'hold', 'of another member, wallet or reference than was held'
FROM hold_rows r JOIN held h ON h.id = r.transaction_id AND h.kind = 3
WHERE (r.member_id, r.wallet_id) <> (h.member_id, h.wallet_id)
    OR substr(sha256(convert_to('hold:' || r.reference, 'UTF8')), 1, 16) <> h.key_digest
UNION ALL
SELECT p.hold_id >> 24, (p.hold_id & x'ffffff'::int)::int, 'hold',
    format('its lots are out with %s, %s of it on one; the entries say %s', o.points, o.lowest, p.points - p.released - p.returned)
FROM held_points p LEFT JOIN held_out o USING (hold_id)
WHERE o.lowest < 0 OR o.points IS DISTINCT FROM p.points - p.released - p.returned
UNION ALL
SELECT a.id, NULL, 'holds', format('account %s held, its holds %s', a.held, coalesce(o.points, 0))
FROM points_account a
LEFT JOIN (SELECT transaction_id >> 24 AS account_id, sum(points - captured - released) AS points FROM hold_rows GROUP BY 1) o
    ON o.account_id = a.id
WHERE a.id BETWEEN p_first_account_id AND p_last_account_id AND a.held <> coalesce(o.points, 0)
UNION ALL
SELECT id >> 24, (id & x'ffffff'::int)::int, 'accrual',
    format('of its accrual %s stood, and %s should: it says %s', stands, should_stand, change)
FROM stood WHERE change <> CASE WHEN is_return THEN least(0, should_stand - stands) ELSE should_stand - stands END
UNION ALL
SELECT k.id >> 24, (k.id & x'ffffff'::int)::int, 'accrual', format('it added %s points, its lot began with %s', points_added, l.points)
FROM points_accrualcorrection k LEFT JOIN points_lot l ON l.id = k.lot_id AND l.id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
WHERE k.id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int AND k.points_added <> coalesce(l.points, 0)
$$;
