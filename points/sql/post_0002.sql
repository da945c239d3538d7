-- What a clawback owes after the end of a lot, and corrections of accruals: what an accrual is worth by what is known of
-- the past now. Successors of functions of post_0001.sql.
--
-- An earn may have corrections instead of accruals, a clawback corrections instead of returns:
--   corrections [{accrual (0: a new one, of source_kind, source_id and rule), source_kind, source_id, rule, fact_kind,
--     fact_id, evaluation, basis, multiplier, points, reason, returned, whole}]
-- Errors: PN008 an accrual has changed since its correction was worked out.

-- What an accrual counts for: its points as last corrected, and what stands of them: given, and not asked back.
CREATE FUNCTION points_standing(p_accrual_id bigint, OUT points bigint, OUT stands bigint) LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT k.points FROM points_accrualcorrection k WHERE k.accrual_id = a.id ORDER BY k.id DESC LIMIT 1),
            a.points),
        (a.points
            + coalesce((SELECT sum(k.points_added - k.points_due) FROM points_accrualcorrection k WHERE k.accrual_id = a.id), 0)
            - coalesce((SELECT sum(r.points_due) FROM points_accrualreturn r WHERE r.accrual_id = a.id), 0))::bigint
    FROM points_accrual a WHERE a.id = p_accrual_id
$$;

-- What is left of points of which a share has come back.
CREATE FUNCTION points_left(p_points bigint, p_returned bigint, p_whole bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE RETURN p_points - div(p_points::numeric * p_returned, p_whole)::bigint;

-- The lots of an accrual: the one it opened or shares, then those of its corrections.
CREATE FUNCTION points_lots_of(p_accrual_id bigint, p_lot_id bigint) RETURNS bigint[] LANGUAGE sql STABLE AS $$
    SELECT array_remove(p_lot_id || ARRAY(
        SELECT k.lot_id FROM points_accrualcorrection k WHERE k.accrual_id = p_accrual_id AND k.lot_id IS NOT NULL
        ORDER BY k.id), NULL)
$$;

-- Of points that fall due now of an accrual, what the account owes: all that has been due of the accruals of its lot,
-- less what has expired of the lot and of their corrections' lots, less what was owed before. What was spent before the
-- end is owed after it too; what expired is forgiven. A return from before `points_owed` was written had owed all that
-- was due, or nothing of an ended lot.
CREATE FUNCTION points_owed(c points_cursor, p_accrual_id bigint, p_lot_id bigint, p_due bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    lots bigint[] := points_lots_of(p_accrual_id, p_lot_id);
    ended_at timestamptz := (SELECT min(expires_at) FROM points_lot WHERE id = ANY (lots) AND expires_at <= c.judged_at);
    accruals bigint[] := ARRAY[p_accrual_id];
    not_owed bigint;
    expired bigint;
BEGIN
    IF ended_at IS NULL THEN
        RETURN p_due;
    END IF;
    IF p_lot_id IS NOT NULL THEN
        -- The accruals of a lot follow it, up to the next transaction.
        accruals := ARRAY(
            SELECT id FROM points_accrual a
            WHERE a.id > p_lot_id AND a.lot_id = p_lot_id AND a.id < coalesce((
                SELECT min(id) FROM points_ledgertransaction
                WHERE id BETWEEN p_lot_id AND c.account_id << 24 | x'ffffff'::int), (c.txn).id));
        lots := p_lot_id || ARRAY(
            SELECT lot_id FROM points_accrualcorrection WHERE accrual_id = ANY (accruals) AND lot_id IS NOT NULL);
    END IF;
    SELECT coalesce(sum(r.points_due - coalesce(r.points_owed, CASE WHEN EXISTS (
            SELECT FROM points_ledgertransaction t
            WHERE t.id BETWEEN c.account_id << 24 AND r.transaction_id AND t.effective_at >= ended_at
        ) THEN 0 ELSE r.points_due END)), 0)
    INTO not_owed FROM points_accrualreturn r WHERE r.accrual_id = ANY (accruals);
    not_owed := not_owed + (
        SELECT coalesce(sum(points_due - points_owed), 0) FROM points_accrualcorrection WHERE accrual_id = ANY (accruals));
    SELECT coalesce(sum(m.points), 0) INTO expired
    FROM points_lotallocation m JOIN points_ledgertransaction t ON t.id = m.transaction_id AND t.kind = 7
    WHERE m.lot_id = ANY (lots);
    RETURN greatest(0, p_due + not_owed - expired);
END $$;

-- Raise accruals: what is added opens a lot of its own, with the dates of the posting.
CREATE FUNCTION points_do_correct(INOUT c points_cursor, p jsonb) LANGUAGE plpgsql AS $$
DECLARE
    k points_accrualcorrection;
    a points_accrual;
    x record;
    s record;
BEGIN
    FOR x IN
        SELECT * FROM jsonb_to_recordset(p -> 'corrections') AS x(
            accrual bigint, source_kind smallint, source_id bigint, rule bigint, fact_kind smallint, fact_id bigint,
            evaluation bigint, basis bigint, multiplier int, points bigint, reason smallint, returned bigint, whole bigint)
    LOOP
        k.accrual_id := x.accrual;
        IF x.accrual = 0 THEN
            c.seq := c.seq + 1;
            a.id := c.account_id << 24 | c.seq;
            a.member_id := c.member_id;
            a.transaction_id := (c.txn).id;
            a.wallet_id := c.wallet_id;
            a.source_kind := x.source_kind;
            a.source_id := x.source_id;
            a.rule_version_id := x.rule;
            a.basis := x.basis;
            a.multiplier_bps := x.multiplier;
            a.points := 0;
            a.capped_points := 0;
            a.reason := 5;
            INSERT INTO points_accrual SELECT a.*;
            c.content := c.content || points_bytes(a);
            k.accrual_id := a.id;
        END IF;
        SELECT * INTO s FROM points_standing(k.accrual_id);
        k.points_added := points_left(x.points, x.returned, x.whole) - s.stands;
        IF k.points_added < 0 THEN
            RAISE EXCEPTION 'accrual % has changed since', k.accrual_id USING ERRCODE = 'PN008';
        END IF;
        k.lot_id := NULL;
        IF k.points_added > 0 THEN
            c := points_open_lot(
                c, k.points_added, (p ->> 'available_at')::timestamptz, (p ->> 'expires_at')::timestamptz);
            k.lot_id := c.result;
        END IF;
        c.seq := c.seq + 1;
        k.id := c.account_id << 24 | c.seq;
        k.member_id := c.member_id;
        k.transaction_id := (c.txn).id;
        k.fact_kind := x.fact_kind;
        k.fact_id := x.fact_id;
        k.evaluation_id := x.evaluation;
        k.basis := x.basis;
        k.multiplier_bps := x.multiplier;
        k.points := x.points;
        k.reason := x.reason;
        k.returned := x.returned;
        k.whole := x.whole;
        k.points_due := 0;
        k.points_owed := 0;
        k.points_taken := 0;
        INSERT INTO points_accrualcorrection SELECT k.*;
        c.content := c.content || points_bytes(k);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION points_do_earn(INOUT c points_cursor, p jsonb) LANGUAGE plpgsql AS $$
DECLARE
    a points_accrual;
    accrual record;
    the_lot_id bigint;
    total bigint := (SELECT coalesce(sum((x ->> 'points')::bigint), 0) FROM jsonb_array_elements(p -> 'accruals') x);
BEGIN
    IF p ? 'corrections' THEN
        c := points_do_correct(c, p);
        RETURN;
    END IF;
    IF total > 0 THEN
        c := points_open_lot(c, total, (p ->> 'available_at')::timestamptz, (p ->> 'expires_at')::timestamptz);
        the_lot_id := c.result;
    END IF;
    FOR accrual IN
        SELECT * FROM jsonb_to_recordset(p -> 'accruals') AS x(
            source_kind smallint, source_id bigint, rule bigint, basis bigint, multiplier int, points bigint,
            capped bigint, reason smallint)
    LOOP
        c.seq := c.seq + 1;
        a.id := c.account_id << 24 | c.seq;
        a.member_id := c.member_id;
        a.transaction_id := (c.txn).id;
        a.wallet_id := c.wallet_id;
        a.lot_id := CASE WHEN accrual.points > 0 THEN the_lot_id END;
        a.source_kind := accrual.source_kind;
        a.source_id := accrual.source_id;
        a.rule_version_id := accrual.rule;
        a.basis := accrual.basis;
        a.multiplier_bps := accrual.multiplier;
        a.points := accrual.points;
        a.capped_points := accrual.capped;
        a.reason := accrual.reason;
        INSERT INTO points_accrual SELECT a.*;
        c.content := c.content || points_bytes(a);
    END LOOP;
END $$;

-- Take back what a refund, or a correction, takes away from accruals: from each accrual's own lots, then by policy. Of
-- lots that have ended, what expired is forgiven. Holds are never touched.
CREATE OR REPLACE FUNCTION points_do_clawback(INOUT c points_cursor, p jsonb) LANGUAGE plpgsql AS $$
DECLARE
    r points_accrualreturn;
    k points_accrualcorrection;
    a record;
    s record;
    b points_lotbalance;
    own_lot_id bigint;
    part bigint;
    due bigint;
    owed bigint;
    taken bigint;
    from_pending bigint := 0;
    from_available bigint := 0;
    from_debt bigint := 0;
BEGIN
    FOR a IN
        SELECT acc.id, acc.lot_id, x.n, x.returned, x.whole, x.source_kind, x.source_id, NULL::jsonb AS correction
        FROM ROWS FROM (jsonb_to_recordset(p -> 'returns') AS (
                line_kind smallint, line bigint, source_kind smallint, source_id bigint, returned bigint, whole bigint)
            ) WITH ORDINALITY AS x (line_kind, line, source_kind, source_id, returned, whole, n)
        JOIN points_accrual acc ON acc.source_id = x.line AND acc.source_kind = x.line_kind
            AND acc.wallet_id = c.wallet_id AND acc.member_id = c.member_id
        UNION ALL
        SELECT acc.id, acc.lot_id, x.n, (x.told ->> 'returned')::bigint, (x.told ->> 'whole')::bigint, NULL, NULL, x.told
        FROM jsonb_array_elements(p -> 'corrections') WITH ORDINALITY AS x (told, n)
        JOIN points_accrual acc ON acc.id = (x.told ->> 'accrual')::bigint AND acc.member_id = c.member_id
        ORDER BY n, id
    LOOP
        SELECT * INTO s FROM points_standing(a.id);
        due := s.stands
            - points_left(coalesce((a.correction ->> 'points')::bigint, s.points), a.returned, a.whole);
        IF due < 0 AND a.correction IS NOT NULL THEN
            RAISE EXCEPTION 'accrual % has changed since', a.id USING ERRCODE = 'PN008';
        END IF;
        due := greatest(0, due);
        owed := points_owed(c, a.id, a.lot_id, due);
        taken := 0;
        FOREACH own_lot_id IN ARRAY points_lots_of(a.id, a.lot_id) LOOP
            SELECT * INTO b FROM points_lotbalance WHERE lot_id = own_lot_id;
            IF FOUND AND taken < owed THEN
                part := least(owed - taken, b.remaining);
                c := points_allocate(c, own_lot_id, part);
                taken := taken + part;
                IF b.is_pending THEN
                    from_pending := from_pending + part;
                ELSE
                    from_available := from_available + part;
                END IF;
            END IF;
        END LOOP;
        IF taken < owed AND p ->> 'policy' <> 'own_lot' THEN
            c := points_take(c, owed - taken);
            from_available := from_available + c.result;
            taken := taken + c.result;
            IF taken < owed AND p ->> 'policy' = 'debt' THEN
                from_debt := from_debt + owed - taken;
                taken := owed;
            ELSIF taken < owed AND p ->> 'policy' = 'refuse' THEN
                RAISE EXCEPTION 'the refund takes back % points, % are left', owed, taken
                    USING ERRCODE = 'PN004', DETAIL = json_build_object('asked', owed, 'available', taken)::text;
            END IF;
        END IF;
        c.seq := c.seq + 1;
        IF a.correction IS NULL THEN
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
            r.points_taken := taken;
            INSERT INTO points_accrualreturn SELECT r.*;
            c.content := c.content || points_bytes(r);
        ELSE
            k.id := c.account_id << 24 | c.seq;
            k.member_id := c.member_id;
            k.transaction_id := (c.txn).id;
            k.accrual_id := a.id;
            k.fact_kind := a.correction ->> 'fact_kind';
            k.fact_id := a.correction ->> 'fact_id';
            k.evaluation_id := a.correction ->> 'evaluation';
            k.basis := a.correction ->> 'basis';
            k.multiplier_bps := a.correction ->> 'multiplier';
            k.points := a.correction ->> 'points';
            k.reason := a.correction ->> 'reason';
            k.returned := a.returned;
            k.whole := a.whole;
            k.points_added := 0;
            k.points_due := due;
            k.points_owed := owed;
            k.points_taken := taken;
            INSERT INTO points_accrualcorrection SELECT k.*;
            c.content := c.content || points_bytes(k);
        END IF;
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
