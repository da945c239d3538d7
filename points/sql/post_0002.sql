-- What a clawback owes, and the clawback that takes it: successors of points_do_clawback of post_0001.sql.

-- Of points that fall due now, what the account owes: all that has been due of the lot's accruals, less what of the lot
-- has expired, less what was owed before. What was spent before the lot's end is owed after it too; what expired is
-- forgiven. A return from before `points_owed` was written had owed all that was due, or nothing of an ended lot.
CREATE FUNCTION points_owed(c points_cursor, p_lot_id bigint, p_expires_at timestamptz, p_due bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    not_owed bigint;
    expired bigint;
BEGIN
    IF p_lot_id IS NULL OR p_expires_at IS NULL OR p_expires_at > c.judged_at THEN
        RETURN p_due;
    END IF;
    -- The accruals of a lot follow it, up to the next transaction.
    SELECT coalesce(sum(r.points_due - coalesce(r.points_owed, CASE WHEN EXISTS (
            SELECT FROM points_ledgertransaction t
            WHERE t.id BETWEEN c.account_id << 24 AND r.transaction_id AND t.effective_at >= p_expires_at
        ) THEN 0 ELSE r.points_due END)), 0)
    INTO not_owed
    FROM points_accrual a JOIN points_accrualreturn r ON r.accrual_id = a.id
    WHERE a.id > p_lot_id AND a.lot_id = p_lot_id AND a.id < coalesce((
        SELECT min(id) FROM points_ledgertransaction
        WHERE id BETWEEN p_lot_id AND c.account_id << 24 | x'ffffff'::int), (c.txn).id);
    SELECT coalesce(sum(m.points), 0) INTO expired
    FROM points_lotallocation m JOIN points_ledgertransaction t ON t.id = m.transaction_id AND t.kind = 7
    WHERE m.lot_id = p_lot_id;
    RETURN greatest(0, p_due + not_owed - expired);
END $$;

-- Take back what a refund takes away from its lines' accruals: from each accrual's own lot, then by policy. Of a lot
-- that has ended, what expired is forgiven. Holds are never touched.
CREATE OR REPLACE FUNCTION points_do_clawback(INOUT c points_cursor, p jsonb) LANGUAGE plpgsql AS $$
DECLARE
    r points_accrualreturn;
    a record;
    b points_lotbalance;
    part bigint;
    due bigint;
    owed bigint;
    from_pending bigint := 0;
    from_available bigint := 0;
    from_debt bigint := 0;
BEGIN
    FOR a IN
        SELECT acc.id, acc.points, acc.lot_id, lot.expires_at, x.*
        FROM ROWS FROM (jsonb_to_recordset(p -> 'returns') AS (
                line_kind smallint, line bigint, source_kind smallint, source_id bigint, returned bigint, whole bigint)
            ) WITH ORDINALITY AS x (line_kind, line, source_kind, source_id, returned, whole, n)
        JOIN points_accrual acc ON acc.source_id = x.line AND acc.source_kind = x.line_kind
            AND acc.wallet_id = c.wallet_id AND acc.member_id = c.member_id
        LEFT JOIN points_lot lot ON lot.id = acc.lot_id
        ORDER BY x.n, acc.id
    LOOP
        due := greatest(0, div(a.points::numeric * a.returned, a.whole)::bigint
            - (SELECT coalesce(sum(points_due), 0) FROM points_accrualreturn WHERE accrual_id = a.id));
        owed := points_owed(c, a.lot_id, a.expires_at, due);
        r.points_taken := 0;
        IF owed > 0 THEN
            SELECT * INTO b FROM points_lotbalance WHERE lot_id = a.lot_id;
            IF FOUND THEN
                part := least(owed, b.remaining);
                c := points_allocate(c, a.lot_id, part);
                r.points_taken := part;
                IF b.is_pending THEN
                    from_pending := from_pending + part;
                ELSE
                    from_available := from_available + part;
                END IF;
            END IF;
            IF r.points_taken < owed AND p ->> 'policy' <> 'own_lot' THEN
                c := points_take(c, owed - r.points_taken);
                from_available := from_available + c.result;
                r.points_taken := r.points_taken + c.result;
                IF r.points_taken < owed AND p ->> 'policy' = 'debt' THEN
                    from_debt := from_debt + owed - r.points_taken;
                    r.points_taken := owed;
                ELSIF r.points_taken < owed AND p ->> 'policy' = 'refuse' THEN
                    RAISE EXCEPTION 'the refund takes back % points, % are left', owed, r.points_taken
                        USING ERRCODE = 'PN004',
                        DETAIL = json_build_object('asked', owed, 'available', r.points_taken)::text;
                END IF;
            END IF;
        END IF;
        c.seq := c.seq + 1;
        r.id := c.account_id << 24 | c.seq;
        r.member_id := c.member_id;
        r.transaction_id := (c.txn).id;
        r.accrual_id := a.id;
        r.source_kind := a.source_kind;
        r.source_id := a.source_id;
        r.returned := a.returned;
        r.whole := a.whole;
        r.points_due := due;
        r.points_owed := owed;
        INSERT INTO points_accrualreturn SELECT r.*;
        c.content := c.content || points_bytes(r);
    END LOOP;
    IF from_pending > 0 THEN
        c := points_move(c, 2, 14, from_pending);
    END IF;
    IF from_available > 0 THEN
        c := points_move(c, 1, 14, from_available);
    END IF;
    IF from_debt > 0 THEN
        c := points_move(c, 4, 14, from_debt);
    END IF;
END $$;
