-- The same postings as points_post makes, for many at once: plain INSERTs over temporary tables that the caller has
-- filled and analyzed, because joined CTEs of this size are planned badly.

-- Make the accounts that do not exist yet, and lock all of them. Whoever posts to several accounts calls this first.
-- Locks: the accounts, by (member, wallet).
CREATE FUNCTION points_lock_accounts(p_member_ids bigint[], p_wallet_ids bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO points_account (member_id, wallet_id, available, pending, held, debt, lifetime_earned,
        lifetime_redeemed, seq, head_hash)
    SELECT member_id, wallet_id, 0, 0, 0, 0, 0, 0, 0, points_no_hash()
    FROM (SELECT DISTINCT * FROM unnest(p_member_ids, p_wallet_ids) AS x (member_id, wallet_id)) s
    WHERE NOT EXISTS (
        SELECT FROM points_account a WHERE a.member_id = s.member_id AND a.wallet_id = s.wallet_id)
    ORDER BY 1, 2 ON CONFLICT DO NOTHING;
    PERFORM FROM points_account a
    WHERE (a.member_id, a.wallet_id) IN (SELECT * FROM unnest(p_member_ids, p_wallet_ids))
    ORDER BY a.member_id, a.wallet_id FOR NO KEY UPDATE;
END $$;

-- Post every earning in `posting_stage` whose account needs nothing else, and remove it from the stage; what remains
-- there (debt to repay, lots falling due between the postings, keys seen before or twice) is for points_post.
-- posting_stage: n, member_id, wallet_id, source_kind, source_id, effective_at, available_at, expires_at, points,
--   accruals, key_digest, request_digest. accrual_stage: n, position (from 0), and the accrual's own columns.
-- Returns how many it posted. Locks: accounts in order of (member, wallet).
CREATE FUNCTION points_post_earnings(p_program_id bigint, p_recorded_at timestamptz) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    posted int;
BEGIN
    -- Lock before deciding anything: what is read below is then the truth until commit.
    PERFORM points_lock_accounts(array_agg(member_id), array_agg(wallet_id)) FROM posting_stage;

    CREATE TEMP TABLE account_stage ON COMMIT DROP AS
    SELECT a.id AS account_id, a.member_id, a.wallet_id, a.available, a.pending, a.seq, a.head_hash,
        a.next_due_at, a.last_effective_at AS judged_at
    FROM points_account a
    JOIN (
        SELECT member_id, wallet_id, max(effective_at) AS last_at,
            min(CASE WHEN available_at > effective_at THEN available_at END) AS first_vest_at,
            min(expires_at) AS first_expiry_at,
            -- A scalar subquery, because the planner turns EXISTS into a join over the whole ledger.
            max((SELECT t.id FROM points_ledgertransaction t WHERE t.member_id = p.member_id
                AND t.wallet_id = p.wallet_id AND t.key_digest = p.key_digest)) AS seen_id,
            count(*) > count(DISTINCT key_digest) AS repeats_itself
        FROM posting_stage p GROUP BY 1, 2
    ) s USING (member_id, wallet_id)
    WHERE a.debt = 0
        AND least(a.next_due_at, s.first_vest_at, s.first_expiry_at, 'infinity') > greatest(s.last_at, a.last_effective_at)
        AND s.seen_id IS NULL AND NOT s.repeats_itself;
    ANALYZE account_stage;

    -- Number the rows as points_post does: transaction, lot, entry, then the accruals.
    CREATE TEMP TABLE txn_stage ON COMMIT DROP AS
    SELECT p.n, p.points, p.accruals, p.available_at, p.expires_at, a.account_id,
        p.available_at > greatest(p.effective_at, a.judged_at) AS is_pending,
        (a.account_id << 24) + a.seq + 1
            + sum(1 + p.accruals + CASE WHEN p.points > 0 THEN 2 ELSE 0 END) OVER running
            - (1 + p.accruals + CASE WHEN p.points > 0 THEN 2 ELSE 0 END) AS id,
        p.member_id, p.wallet_id, 1::smallint AS kind, p.source_kind, p.source_id, p.effective_at, p.key_digest,
        p.request_digest, a.head_hash,
        a.available AS first_available, a.pending AS first_pending
    FROM posting_stage p JOIN account_stage a USING (member_id, wallet_id)
    WINDOW running AS (PARTITION BY a.account_id ORDER BY p.n);
    GET DIAGNOSTICS posted = ROW_COUNT;
    IF posted = 0 THEN
        DROP TABLE account_stage, txn_stage;
        RETURN 0;
    END IF;
    ANALYZE txn_stage;

    INSERT INTO points_lot (id, member_id, transaction_id, points, available_at, expires_at)
    SELECT id + 1, member_id, id, points, available_at, expires_at FROM txn_stage WHERE points > 0 ORDER BY id;

    INSERT INTO points_lotbalance (lot_id, member_id, remaining, is_pending, available_at, expires_at)
    SELECT id + 1, member_id, points, is_pending, available_at, expires_at FROM txn_stage WHERE points > 0 ORDER BY id;

    INSERT INTO points_ledgerentry (id, member_id, transaction_id, from_bucket, to_bucket, points, to_balance_after)
    SELECT id + 2, member_id, id, 11, CASE WHEN is_pending THEN 2 ELSE 1 END, points,
        CASE WHEN is_pending THEN first_pending ELSE first_available END
            + sum(points) OVER (PARTITION BY account_id, is_pending ORDER BY id)
    FROM txn_stage WHERE points > 0 ORDER BY id;

    INSERT INTO points_accrual (id, member_id, transaction_id, wallet_id, lot_id, source_kind, source_id,
        rule_version_id, basis, multiplier_bps, points, capped_points, reason)
    SELECT t.id + 1 + CASE WHEN t.points > 0 THEN 2 ELSE 0 END + s.position, t.member_id, t.id, t.wallet_id,
        CASE WHEN s.points > 0 THEN t.id + 1 END, s.source_kind, s.source_id, s.rule_version_id, s.basis,
        s.multiplier_bps, s.points, s.capped_points, s.reason
    FROM accrual_stage s JOIN txn_stage t USING (n) ORDER BY t.id, s.position;

    INSERT INTO points_ledgertransaction (id, member_id, wallet_id, kind, source_kind, source_id, effective_at,
        recorded_at, key_digest, request_digest, hash)
    SELECT id, member_id, wallet_id, kind, source_kind, source_id, effective_at, p_recorded_at, key_digest,
        request_digest, points_chain(head_hash, content) OVER (PARTITION BY account_id ORDER BY id)
    FROM (
        SELECT t.*, points_transaction_bytes(t.id, t.member_id, t.wallet_id, t.kind, t.source_kind, t.source_id,
                NULL, t.effective_at, p_recorded_at, t.key_digest, t.request_digest, NULL)
            || coalesce(points_bytes(l) || points_bytes(e), '')
            || coalesce((SELECT string_agg(points_bytes(a), '' ORDER BY a.id) FROM points_accrual a
                WHERE a.id > t.id AND a.id <= t.id + t.accruals + CASE WHEN t.points > 0 THEN 2 ELSE 0 END), '') AS content
        FROM txn_stage t
        LEFT JOIN points_lot l ON l.id = t.id + 1 AND t.points > 0
        LEFT JOIN points_ledgerentry e ON e.id = t.id + 2 AND t.points > 0
    ) x;

    UPDATE points_account a SET
        available = a.available + s.available, pending = a.pending + s.pending,
        lifetime_earned = a.lifetime_earned + s.available + s.pending,
        seq = s.seq, head_hash = t.hash, last_effective_at = greatest(a.last_effective_at, s.last_at),
        next_due_at = least(a.next_due_at, s.next_due_at)
    FROM (
        SELECT account_id, max(id) AS last_id, max(effective_at) AS last_at,
            coalesce(sum(points) FILTER (WHERE NOT is_pending), 0) AS available,
            coalesce(sum(points) FILTER (WHERE is_pending), 0) AS pending,
            max((id & x'ffffff'::int)::int + accruals + CASE WHEN points > 0 THEN 2 ELSE 0 END) AS seq,
            min(CASE WHEN points = 0 THEN NULL WHEN is_pending THEN available_at ELSE expires_at END) AS next_due_at
        FROM txn_stage GROUP BY account_id
    ) s JOIN points_ledgertransaction t ON t.id = s.last_id
    WHERE a.id = s.account_id;

    INSERT INTO core_outboxevent (program_id, topic, payload, recorded_at)
    SELECT p_program_id, 'points.posted', jsonb_build_object('transactions', jsonb_agg(id ORDER BY n)), p_recorded_at
    FROM txn_stage;

    DELETE FROM posting_stage USING txn_stage t WHERE posting_stage.n = t.n;
    DROP TABLE account_stage, txn_stage;
    RETURN posted;
END $$;

-- Settle the given accounts to an instant. An account on which only expiries of available lots are due goes through
-- set-based statements, any other through points_settle. Returns how many vests and expiries it posted, and publishes
-- them.
-- Locks: the accounts, by (member, wallet).
CREATE FUNCTION points_settle_accounts(
    p_account_ids bigint[], p_at timestamptz, p_recorded_at timestamptz, OUT vested int, OUT expired int
) LANGUAGE plpgsql AS $$
DECLARE
    a record;
    c points_cursor;
    posted bigint[];
    settled_seq int;
BEGIN
    -- From here on only what is locked: an account that another transaction makes due meanwhile is for the next call.
    p_account_ids := ARRAY(
        SELECT id FROM points_account WHERE id = ANY (p_account_ids) AND next_due_at <= p_at
        ORDER BY member_id, wallet_id FOR NO KEY UPDATE);

    CREATE TEMP TABLE IF NOT EXISTS expiry_stage (
        id bigint, account_id bigint, member_id bigint, wallet_id bigint, lot_id bigint, points bigint, due_at timestamptz,
        available_after bigint, head_hash bytea, key_digest bytea);
    TRUNCATE expiry_stage;
    INSERT INTO expiry_stage
    SELECT (x.account_id << 24) + x.seq - 2 + 3 * row_number() OVER running, x.account_id, x.member_id, x.wallet_id,
        x.lot_id, x.remaining, x.expires_at, x.available - sum(x.remaining) OVER running, x.head_hash,
        int8send(0) || int8send((x.account_id << 24) + x.seq - 2 + 3 * row_number() OVER running)
    FROM (
        SELECT acc.id AS account_id, acc.member_id, acc.wallet_id, acc.available, acc.seq, acc.head_hash,
            b.lot_id, b.remaining, b.expires_at,
            bool_or(b.is_pending) OVER (PARTITION BY acc.id) AS vests_first
        FROM points_account acc
        JOIN points_lotbalance b ON b.lot_id BETWEEN acc.id << 24 AND acc.id << 24 | x'ffffff'::int
        WHERE acc.id = ANY (p_account_ids)
            AND (b.expires_at <= p_at OR b.is_pending AND b.available_at <= p_at)
    ) x
    WHERE NOT x.vests_first
    WINDOW running AS (PARTITION BY x.account_id ORDER BY x.expires_at, x.lot_id);
    posted := ARRAY(SELECT id FROM expiry_stage ORDER BY id);
    vested := 0;
    expired := cardinality(posted);
    ANALYZE expiry_stage;

    INSERT INTO points_ledgerentry
        (id, member_id, transaction_id, from_bucket, to_bucket, points, from_balance_after)
    SELECT id + 1, member_id, id, 1, 13, points, available_after FROM expiry_stage ORDER BY id;
    INSERT INTO points_lotallocation (id, member_id, transaction_id, lot_id, points)
    SELECT id + 2, member_id, id, lot_id, points FROM expiry_stage ORDER BY id;
    INSERT INTO points_ledgertransaction (id, member_id, wallet_id, kind, source_kind, source_id, effective_at,
        recorded_at, key_digest, request_digest, hash)
    SELECT id, member_id, wallet_id, 7, 6, lot_id, due_at, p_recorded_at, key_digest, key_digest,
        points_chain(head_hash,
            points_transaction_bytes(id, member_id, wallet_id, 7, 6, lot_id, NULL, due_at, p_recorded_at, key_digest,
                key_digest, NULL)
            || points_entry_bytes(id + 1, member_id, id, 1, 13, points, available_after, NULL)
            || points_allocation_bytes(id + 2, member_id, id, lot_id, points)
        ) OVER (PARTITION BY account_id ORDER BY id)
    FROM expiry_stage;
    DELETE FROM points_lotbalance b USING expiry_stage e WHERE b.lot_id = e.lot_id;
    UPDATE points_account acc SET
        available = t.available, seq = (t.last_id & x'ffffff'::int) + 2, head_hash = txn.hash,
        last_effective_at = greatest(acc.last_effective_at, t.last_due_at),
        next_due_at = (
            SELECT min(CASE WHEN is_pending THEN available_at ELSE expires_at END) FROM points_lotbalance
            WHERE lot_id BETWEEN acc.id << 24 AND acc.id << 24 | x'ffffff'::int)
    FROM (SELECT account_id, max(id) AS last_id, min(available_after) AS available, max(due_at) AS last_due_at
        FROM expiry_stage GROUP BY 1) t
    JOIN points_ledgertransaction txn ON txn.id = t.last_id
    WHERE acc.id = t.account_id;

    FOR a IN
        SELECT member_id, wallet_id FROM points_account WHERE id = ANY (p_account_ids) AND next_due_at <= p_at
        ORDER BY 1, 2
    LOOP
        c := points_open_account(a.member_id, a.wallet_id, p_recorded_at);
        settled_seq := c.seq;
        c := points_settle(c, p_at);
        PERFORM points_close_account(c);
        SELECT posted || array_agg(id ORDER BY id), vested + count(*) FILTER (WHERE kind = 8),
            expired + count(*) FILTER (WHERE kind = 7)
        INTO posted, vested, expired
        FROM points_ledgertransaction WHERE id > c.account_id << 24 | settled_seq AND id <= c.account_id << 24 | c.seq;
    END LOOP;
    INSERT INTO core_outboxevent (program_id, topic, payload, recorded_at)
    SELECT w.program_id, 'points.posted', jsonb_build_object('transactions', jsonb_agg(t.id ORDER BY t.id)), p_recorded_at
    FROM points_ledgertransaction t JOIN points_wallet w ON w.id = t.wallet_id
    WHERE t.id = ANY (posted) GROUP BY 1;
END $$;
