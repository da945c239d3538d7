-- Everything that can be wrong in the ledger of a range of accounts, one row per finding. Reads only.
CREATE FUNCTION points_verify(p_first_account_id bigint, p_last_account_id bigint)
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
), chained AS (
    SELECT c.txn, t.hash, sha256(coalesce(lag(t.hash) OVER account, points_no_hash()) || c.content) AS expected,
        c.txn = max(c.txn) OVER (PARTITION BY c.txn >> 24) AS is_last
    FROM (SELECT txn, string_agg(bytes, '' ORDER BY id) AS content FROM row_bytes GROUP BY txn) c
    LEFT JOIN points_ledgertransaction t ON t.id = c.txn
    WINDOW account AS (PARTITION BY c.txn >> 24 ORDER BY c.txn)
), ends AS (
    SELECT id >> 24 AS account_id, max(id) & x'ffffff'::int AS seq FROM row_bytes GROUP BY 1
), numbered AS (
    SELECT id, lag(id, 1, id >> 24 << 24) OVER (PARTITION BY id >> 24 ORDER BY id) AS previous FROM row_bytes
), sums AS (
    SELECT id >> 24 AS account_id,
        sum(points * ((to_bucket = 1)::int - (from_bucket = 1)::int)) AS available,
        sum(points * ((to_bucket = 2)::int - (from_bucket = 2)::int)) AS pending,
        sum(points * ((to_bucket = 3)::int - (from_bucket = 3)::int)) AS held,
        sum(points * ((to_bucket = 4)::int - (from_bucket = 4)::int)) AS debt
    FROM points_ledgerentry WHERE id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int GROUP BY 1
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
), lots AS (
    SELECT l.id, l.points - coalesce(t.points, 0) AS remaining FROM points_lot l LEFT JOIN taken t ON t.lot_id = l.id
    WHERE l.id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int
), open_lots AS (
    SELECT lot_id >> 24 AS account_id, coalesce(sum(remaining) FILTER (WHERE NOT is_pending), 0) AS available,
        coalesce(sum(remaining) FILTER (WHERE is_pending), 0) AS pending
    FROM points_lotbalance WHERE lot_id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int GROUP BY 1
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
SELECT a.id, NULL, 'balance', format('account %s/%s/%s/%s, entries %s/%s/%s/%s',
    a.available, a.pending, a.held, a.debt, s.available, s.pending, s.held, s.debt)
FROM points_account a LEFT JOIN sums s ON s.account_id = a.id
WHERE a.id BETWEEN p_first_account_id AND p_last_account_id
    AND (a.available, a.pending, a.held, a.debt)
        <> (coalesce(s.available, 0), coalesce(s.pending, 0), coalesce(s.held, 0), coalesce(s.debt, 0))
UNION ALL
SELECT id >> 24, (id & x'ffffff'::int)::int, 'balance after', format('bucket %s says %s, the entries say %s', bucket, after, expected)
FROM running WHERE after IS DISTINCT FROM expected
UNION ALL
SELECT l.id >> 24, (l.id & x'ffffff'::int)::int, 'lot', format('%s left, the allocations say %s', coalesce(b.remaining, 0), l.remaining)
FROM lots l LEFT JOIN points_lotbalance b ON b.lot_id = l.id WHERE coalesce(b.remaining, 0) <> l.remaining
UNION ALL
SELECT lot_id >> 24, (lot_id & x'ffffff'::int)::int, 'lot', 'open, but was never born'
FROM points_lotbalance b WHERE lot_id BETWEEN p_first_account_id << 24 AND p_last_account_id << 24 | x'ffffff'::int AND NOT EXISTS (SELECT FROM points_lot l WHERE l.id = b.lot_id)
UNION ALL
SELECT a.id, NULL, 'lots', format('open lots hold %s available and %s pending', o.available, o.pending)
FROM points_account a LEFT JOIN open_lots o ON o.account_id = a.id
WHERE a.id BETWEEN p_first_account_id AND p_last_account_id
    AND (a.available, a.pending) <> (coalesce(o.available, 0), coalesce(o.pending, 0))
$$;
