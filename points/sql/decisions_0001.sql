-- Decisions of operators: successors of the reversal and the adjustment of post_0001.sql.

-- Take points off by a decision. What is not available becomes debt where the decision says so; holds are left alone.
CREATE FUNCTION points_do_take_off(INOUT c points_cursor, p_points bigint, p_debt boolean) LANGUAGE plpgsql AS $$
DECLARE
    part bigint := least(p_points, c.available);
BEGIN
    IF part < p_points AND NOT p_debt THEN
        RAISE EXCEPTION '% points asked, % available', p_points, c.available USING ERRCODE = 'PN001',
            DETAIL = json_build_object('asked', p_points, 'available', c.available)::text;
    END IF;
    IF part > 0 THEN
        c := points_move(c, 1, 11, part);
        c := points_take(c, part);
    END IF;
    IF part < p_points THEN
        c := points_move(c, 4, 11, p_points - part);
    END IF;
END $$;

-- Undo a burn or an adjustment. Points taken go back to the lots they came from; what had become debt comes back as a
-- lot of its own, which repays the debt first. Points that an adjustment brought are taken from its own lot, then from
-- others; the rest becomes debt, or is given up where the decision says so. Returns to expired lots expire at once.
CREATE FUNCTION points_do_undo(INOUT c points_cursor, p_transaction_id bigint, p jsonb) LANGUAGE plpgsql AS $$
DECLARE
    t points_ledgertransaction;
    e record;
    m record;
    part bigint;
    points bigint;
BEGIN
    SELECT * INTO t FROM points_ledgertransaction WHERE id = p_transaction_id AND member_id = c.member_id;
    IF NOT FOUND OR t.id >> 24 <> c.account_id OR t.kind NOT IN (2, 9) THEN
        RAISE EXCEPTION 'only a redemption or an adjustment of this account can be reversed' USING ERRCODE = 'PN003';
    END IF;
    IF EXISTS (SELECT FROM points_ledgertransaction WHERE member_id = c.member_id AND reverses_id = t.id) THEN
        RAISE EXCEPTION 'the transaction has been reversed already' USING ERRCODE = 'PN003';
    END IF;
    -- The first entry is the move itself; a repayment of debt that followed it is not undone: the debt is paid.
    SELECT * INTO e FROM points_ledgerentry
    WHERE id BETWEEN t.id AND t.id | x'ffffff'::int AND transaction_id = t.id ORDER BY id LIMIT 1;
    IF e.from_bucket IN (1, 4) THEN
        -- First what had become debt, so that it repays that and not the lots' points do.
        points := (
            SELECT coalesce(sum(x.points), 0) FROM points_ledgerentry x
            WHERE x.id BETWEEN t.id AND t.id | x'ffffff'::int AND x.transaction_id = t.id
                AND x.from_bucket = 4 AND x.to_bucket = 11);
        IF points > 0 THEN
            c := points_open_lot(c, points, (p ->> 'available_at')::timestamptz, (p ->> 'expires_at')::timestamptz);
            c.earned := c.earned - points;
        END IF;
        IF e.from_bucket = 1 THEN
            c := points_move(c, e.to_bucket, 1, e.points);
            FOR m IN
                SELECT lot_id, a.points FROM points_lotallocation a
                WHERE a.id BETWEEN t.id AND t.id | x'ffffff'::int AND transaction_id = t.id ORDER BY a.id
            LOOP
                c := points_allocate(c, m.lot_id, -m.points);
                c := points_repay(c, m.lot_id, m.points);
            END LOOP;
        END IF;
        IF t.kind = 2 THEN
            c.redeemed := c.redeemed - e.points;
        END IF;
        RETURN;
    END IF;
    SELECT l.id, coalesce(b.remaining, 0) AS remaining, coalesce(b.is_pending, false) AS is_pending INTO m
    FROM points_lot l LEFT JOIN points_lotbalance b ON b.lot_id = l.id
    WHERE l.id BETWEEN t.id AND t.id | x'ffffff'::int AND l.transaction_id = t.id;
    -- What has expired of the lot meanwhile is gone already and not asked for twice.
    points := e.points - coalesce((
        SELECT sum(a.points) FROM points_lotallocation a
        JOIN points_ledgertransaction x ON x.id = a.transaction_id AND x.kind = 7
        WHERE a.lot_id = m.id), 0);
    IF m.remaining > 0 THEN
        c := points_allocate(c, m.id, m.remaining);
        c := points_move(c, CASE WHEN m.is_pending THEN 2 ELSE 1 END, 11, m.remaining);
    END IF;
    c := points_take(c, points - m.remaining);
    part := c.result;
    IF part > 0 THEN
        c := points_move(c, 1, 11, part);
    END IF;
    IF points - m.remaining - part > 0 THEN
        IF coalesce((p ->> 'debt')::boolean, true) THEN
            c := points_move(c, 4, 11, points - m.remaining - part);
        ELSE
            points := m.remaining + part;
        END IF;
    END IF;
    c.earned := c.earned - points;
END $$;

-- Post one posting whose key is new to the account in hand. The result is its transaction, none for a clawback of
-- lines that have earned nothing here.
CREATE OR REPLACE FUNCTION points_post_new(INOUT c points_cursor, p jsonb) LANGUAGE plpgsql AS $$
DECLARE
    kind int := p ->> 'kind';
    points bigint := p ->> 'points';
    source_id bigint := p ->> 'source_id';
    reverses_id bigint := p ->> 'reverses';
    h points_hold;
    lot record;
BEGIN
    IF kind = 11 AND p ? 'returns' AND NOT EXISTS (
        SELECT FROM jsonb_array_elements(p -> 'returns') r
        JOIN points_accrual a ON a.source_id = (r ->> 'line')::bigint AND a.source_kind = (r ->> 'line_kind')::smallint
            AND a.wallet_id = c.wallet_id AND a.member_id = c.member_id
    ) THEN
        c.result := NULL;
        RETURN;
    END IF;
    IF kind IN (4, 5, 12) THEN
        -- Captures and releases have their hold as their source; what gives points back has a refund, and names the hold.
        h := points_find_hold(c, p ->> 'reference');
        IF kind = 12 THEN
            reverses_id := h.transaction_id;
        ELSE
            source_id := h.transaction_id;
        END IF;
    END IF;
    c := points_settle(c, (p ->> 'effective_at')::timestamptz);
    c.judged_at := greatest(c.judged_at, (p ->> 'effective_at')::timestamptz);
    c := points_begin(c, kind, (p ->> 'source_kind')::int, source_id,
        (p ->> 'effective_at')::timestamptz, decode(p ->> 'key', 'hex'), decode(p ->> 'request', 'hex'),
        reverses_id, decode(p ->> 'note_digest', 'hex'));
    CASE kind
        WHEN 1 THEN
            c := points_do_earn(c, p);
        WHEN 2 THEN
            c := points_do_burn(c, points, 12);
            c.redeemed := c.redeemed + points;
        WHEN 3 THEN
            c := points_do_burn(c, points, 3);
            INSERT INTO points_hold
                (transaction_id, member_id, wallet_id, reference, points, captured, released, returned, held_until)
            VALUES ((c.txn).id, c.member_id, c.wallet_id, p ->> 'reference', points, 0, 0, 0,
                (p ->> 'held_until')::timestamptz);
        WHEN 4, 5, 12 THEN
            c := points_do_settle_hold(c, kind, h, points);
        WHEN 6 THEN
            c := points_do_undo(c, reverses_id, p);
        WHEN 9 THEN
            IF points > 0 THEN
                c := points_open_lot(c, points, (p ->> 'available_at')::timestamptz, (p ->> 'expires_at')::timestamptz);
            ELSE
                c := points_do_take_off(c, -points, coalesce((p ->> 'debt')::boolean, false));
            END IF;
        WHEN 11 THEN
            c := points_do_clawback(c, p);
        ELSE
            RAISE EXCEPTION 'unknown kind %', kind USING ERRCODE = 'PN005';
    END CASE;
    c := points_finish(c);
    c.result := (c.txn).id;
    IF p ? 'note' THEN
        INSERT INTO points_ledgernote (transaction_id, member_id, salt, body)
        VALUES (c.result, c.member_id, decode(p -> 'note' ->> 'salt', 'hex'), p -> 'note' -> 'body');
    END IF;
    IF kind IN (5, 6, 12) THEN
        -- What went back to a lot past its end expires at once.
        FOR lot IN
            SELECT lot_id, expires_at FROM points_lotbalance
            WHERE lot_id BETWEEN c.account_id << 24 AND c.account_id << 24 | x'ffffff'::int AND expires_at <= c.judged_at
            ORDER BY expires_at, lot_id
        LOOP
            points := c.result;
            c := points_fall_due(
                c, lot.lot_id, false, greatest(lot.expires_at, (p ->> 'effective_at')::timestamptz));
            c.result := points;
        END LOOP;
    END IF;
END $$;

DROP FUNCTION points_do_reverse(points_cursor, bigint);

-- An adjustment above the wallet's limit needs two persons: who asked for it, and another who approved it. Looked at
-- when the transaction ends, so that the request can name the posting.
CREATE FUNCTION points_guard_adjustment() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    above bigint := (
        SELECT (definition ->> 'approval_above')::bigint FROM points_walletversion
        WHERE owner_id = NEW.wallet_id AND status <> 'draft' AND (effective_at IS NULL OR effective_at <= NEW.recorded_at)
        ORDER BY effective_at DESC NULLS LAST LIMIT 1);
    moved bigint;
BEGIN
    IF above IS NULL THEN
        RETURN NULL;
    END IF;
    moved := (
        SELECT coalesce(sum(points), 0) FROM points_ledgerentry
        WHERE id BETWEEN NEW.id AND NEW.id | x'ffffff'::int AND transaction_id = NEW.id AND 11 IN (from_bucket, to_bucket));
    IF moved > above AND NOT EXISTS (
        SELECT FROM points_adjustmentrequest r
        WHERE r.transaction_id = NEW.id AND r.member_id = NEW.member_id AND r.wallet_id = NEW.wallet_id
            AND r.state = 'approved' AND abs(r.points) = moved
    ) THEN
        RAISE EXCEPTION 'an adjustment of % points needs an approved request: the limit is %', moved, above
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER points_adjustment_approved AFTER INSERT ON points_ledgertransaction
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.kind = 9) EXECUTE FUNCTION points_guard_adjustment();

-- A request stays what was asked, and is decided once.
CREATE FUNCTION points_guard_request() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.state <> 'waiting' OR (to_jsonb(NEW) - ARRAY['state', 'decided_by', 'decided_at',
            'decision_reason', 'transaction_id']) IS DISTINCT FROM (to_jsonb(OLD) - ARRAY['state', 'decided_by',
            'decided_at', 'decision_reason', 'transaction_id']) THEN
        RAISE EXCEPTION '% of an adjustment request refused: it is decided once and never changed', TG_OP
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER points_adjustmentrequest_guard BEFORE UPDATE OR DELETE ON points_adjustmentrequest
    FOR EACH ROW EXECUTE FUNCTION points_guard_request();
