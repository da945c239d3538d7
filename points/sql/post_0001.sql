-- The posting kernel. Every change of every balance goes through points_post (postings of any kind),
-- points_post_earnings (many postings that only earn) or points_settle_accounts (many lots that are due); all write
-- the same rows, with the same ids, for the same work.
--
-- A posting is a JSON object:
--   member, wallet, kind, key (32 hex digits), request (32 hex digits), source_kind, source_id, effective_at,
--   note_digest and note (both or none),
--   earn:      available_at, expires_at, accruals [{source_kind, source_id, rule, basis, multiplier, points, capped, reason}]
--   burn:      points
--   adjust:    points (may be negative), available_at, expires_at
--   clawback:  policy, returns [{line_kind, line, source_kind, source_id, returned, whole}]
--   reverse:   reverses (transaction id)
--   hold:      reference, points, held_until
--   capture:   reference, points (left out: all that is held)
--   release:   reference
--   give back: reference, points
-- Buckets: 1 available, 2 pending, 3 held, 4 debt, 11 issued, 12 redeemed, 13 expired, 14 clawed back.
-- Kinds: 1 earn, 2 burn, 3 hold, 4 capture, 5 release, 6 reverse, 7 expire, 8 vest, 9 adjust, 11 clawback, 12 give back.
-- Errors: PN001 not enough points, PN002 key used for something else, PN003 cannot be reversed,
-- PN004 a clawback the policy refuses, PN005 unknown kind, PN006 no such hold, PN007 not so much left of a hold.

-- The state of the account in hand. The account row is locked; it is written back once per call.
CREATE TYPE points_cursor AS (
    account_id bigint, member_id bigint, wallet_id bigint,
    available bigint, pending bigint, held bigint, debt bigint, earned bigint, redeemed bigint,
    seq int, head bytea, judged_at timestamptz, next_due_at timestamptz, recorded_at timestamptz,
    content bytea, txn points_ledgertransaction,
    result bigint  -- what the last step that gives an answer gave: the lot it opened, the points it took
);

-- Begin a transaction: its bytes open the content that the chain will cover.
CREATE FUNCTION points_begin(
    INOUT c points_cursor, p_kind int, p_source_kind int, p_source_id bigint, p_effective_at timestamptz,
    p_key bytea DEFAULT NULL, p_request bytea DEFAULT NULL, p_reverses bigint DEFAULT NULL, p_note bytea DEFAULT NULL
) LANGUAGE plpgsql AS $$
DECLARE
    t points_ledgertransaction;
BEGIN
    c.seq := c.seq + 1;
    t.id := c.account_id << 24 | c.seq;
    t.member_id := c.member_id;
    t.wallet_id := c.wallet_id;
    t.kind := p_kind;
    t.source_kind := p_source_kind;
    t.source_id := p_source_id;
    t.reverses_id := p_reverses;
    t.effective_at := p_effective_at;
    t.recorded_at := c.recorded_at;
    -- What the account does by itself (vest, expire) needs no key from outside: its own id is unique.
    t.key_digest := coalesce(p_key, int8send(0) || int8send(t.id));
    t.request_digest := coalesce(p_request, t.key_digest);
    t.note_digest := p_note;
    c.txn := t;
    c.content := points_bytes(t);
END $$;

-- Close the transaction: chain its content and write its row, after all the rows that it covers.
CREATE FUNCTION points_finish(INOUT c points_cursor) LANGUAGE plpgsql AS $$
DECLARE
    t points_ledgertransaction := c.txn;
BEGIN
    c.head := points_chain_step(c.head, NULL, c.content);
    t.hash := c.head;
    INSERT INTO points_ledgertransaction SELECT t.*;
END $$;

CREATE FUNCTION points_move(INOUT c points_cursor, p_from int, p_to int, p_points bigint) LANGUAGE plpgsql AS $$
DECLARE
    e points_ledgerentry;
BEGIN
    c.seq := c.seq + 1;
    e.id := c.account_id << 24 | c.seq;
    e.member_id := c.member_id;
    e.transaction_id := (c.txn).id;
    e.from_bucket := p_from;
    e.to_bucket := p_to;
    e.points := p_points;
    CASE p_from
        WHEN 1 THEN c.available := c.available - p_points; e.from_balance_after := c.available;
        WHEN 2 THEN c.pending := c.pending - p_points; e.from_balance_after := c.pending;
        WHEN 3 THEN c.held := c.held - p_points; e.from_balance_after := c.held;
        WHEN 4 THEN c.debt := c.debt - p_points; e.from_balance_after := c.debt;
        ELSE NULL;
    END CASE;
    CASE p_to
        WHEN 1 THEN c.available := c.available + p_points; e.to_balance_after := c.available;
        WHEN 2 THEN c.pending := c.pending + p_points; e.to_balance_after := c.pending;
        WHEN 3 THEN c.held := c.held + p_points; e.to_balance_after := c.held;
        WHEN 4 THEN c.debt := c.debt + p_points; e.to_balance_after := c.debt;
        ELSE NULL;
    END CASE;
    INSERT INTO points_ledgerentry SELECT e.*;
    c.content := c.content || points_bytes(e);
END $$;

-- Take from (points > 0) or give back to (points < 0) one lot of this account.
CREATE FUNCTION points_allocate(INOUT c points_cursor, p_lot_id bigint, p_points bigint) LANGUAGE plpgsql AS $$
DECLARE
    m points_lotallocation;
BEGIN
    c.seq := c.seq + 1;
    m.id := c.account_id << 24 | c.seq;
    m.member_id := c.member_id;
    m.transaction_id := (c.txn).id;
    m.lot_id := p_lot_id;
    m.points := p_points;
    INSERT INTO points_lotallocation SELECT m.*;
    c.content := c.content || points_bytes(m);
    IF p_points > 0 THEN
        DELETE FROM points_lotbalance WHERE lot_id = p_lot_id AND remaining = p_points;
        IF NOT FOUND THEN
            UPDATE points_lotbalance SET remaining = remaining - p_points WHERE lot_id = p_lot_id;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'lot % is not open', p_lot_id USING ERRCODE = 'data_corrupted';
            END IF;
        END IF;
    ELSE
        INSERT INTO points_lotbalance (lot_id, member_id, remaining, is_pending, available_at, expires_at)
        SELECT id, member_id, -p_points, false, available_at, expires_at FROM points_lot WHERE id = p_lot_id
        ON CONFLICT (lot_id) DO UPDATE SET remaining = points_lotbalance.remaining - p_points;
        c.next_due_at := least(c.next_due_at, (SELECT expires_at FROM points_lot WHERE id = p_lot_id));
    END IF;
END $$;

-- Take up to the amount from the available lots, those that expire first first. The result is what was taken.
CREATE FUNCTION points_take(INOUT c points_cursor, p_points bigint) LANGUAGE plpgsql AS $$
DECLARE
    b record;
    part bigint;
    taken bigint := 0;
BEGIN
    c.result := 0;
    IF p_points <= 0 THEN
        RETURN;
    END IF;
    FOR b IN
        SELECT lot_id, remaining FROM points_lotbalance
        WHERE lot_id BETWEEN c.account_id << 24 AND c.account_id << 24 | x'ffffff'::int AND NOT is_pending
        ORDER BY expires_at NULLS LAST, lot_id
    LOOP
        part := least(b.remaining, p_points - taken);
        c := points_allocate(c, b.lot_id, part);
        taken := taken + part;
        EXIT WHEN taken = p_points;
    END LOOP;
    c.result := taken;
END $$;

-- A credit to available repays debt first, from the lot that brought it.
CREATE FUNCTION points_repay(INOUT c points_cursor, p_lot_id bigint, p_points bigint) LANGUAGE plpgsql AS $$
DECLARE
    part bigint := least(-c.debt, p_points);
BEGIN
    IF part > 0 THEN
        c := points_move(c, 1, 4, part);
        c := points_allocate(c, p_lot_id, part);
    END IF;
END $$;

-- Open a lot and move its points in from `issued`. The result is the lot.
CREATE FUNCTION points_open_lot(
    INOUT c points_cursor, p_points bigint, p_available_at timestamptz, p_expires_at timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    l points_lot;
    born_pending bool := p_available_at > c.judged_at;
BEGIN
    c.seq := c.seq + 1;
    l.id := c.account_id << 24 | c.seq;
    l.member_id := c.member_id;
    l.transaction_id := (c.txn).id;
    l.points := p_points;
    l.available_at := p_available_at;
    l.expires_at := p_expires_at;
    INSERT INTO points_lot SELECT l.*;
    c.content := c.content || points_bytes(l);
    INSERT INTO points_lotbalance (lot_id, member_id, remaining, is_pending, available_at, expires_at)
    VALUES (l.id, l.member_id, p_points, born_pending, p_available_at, p_expires_at);
    c.next_due_at := least(c.next_due_at, CASE WHEN born_pending THEN p_available_at ELSE p_expires_at END);
    c.earned := c.earned + p_points;
    IF born_pending THEN
        c := points_move(c, 11, 2, p_points);
    ELSE
        c := points_move(c, 11, 1, p_points);
        c := points_repay(c, l.id, p_points);
    END IF;
    c.result := l.id;
END $$;

-- Post what one open lot is due for: its vest, or the expiry of all that is left of it.
CREATE FUNCTION points_fall_due(
    INOUT c points_cursor, p_lot_id bigint, p_vests bool, p_effective_at timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    points bigint := (SELECT remaining FROM points_lotbalance WHERE lot_id = p_lot_id);
BEGIN
    IF points IS NULL THEN
        RETURN;
    END IF;
    c := points_begin(c, CASE WHEN p_vests THEN 8 ELSE 7 END, 6, p_lot_id, p_effective_at);
    IF p_vests THEN
        UPDATE points_lotbalance SET is_pending = false WHERE lot_id = p_lot_id;
        c := points_move(c, 2, 1, points);
        c := points_repay(c, p_lot_id, points);
    ELSE
        c := points_move(c, 1, 13, points);
        c := points_allocate(c, p_lot_id, points);
    END IF;
    c := points_finish(c);
END $$;

-- Bring the account to an instant: post every vest and expiry that is due by then, in the order in which they fell
-- due (vest before expiry, then by lot), each effective at its own due instant. Late postings are judged by what has
-- happened to the account, never by when a job ran: judged_at moves to the due instants, not to the instant asked.
CREATE FUNCTION points_settle(INOUT c points_cursor, p_at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    d record;
    until timestamptz := greatest(c.judged_at, p_at);
BEGIN
    IF c.next_due_at IS NULL OR c.next_due_at > until THEN
        RETURN;
    END IF;
    FOR d IN
        SELECT lot_id, due_at, vests FROM points_lotbalance b,
            LATERAL (VALUES (CASE WHEN b.is_pending THEN b.available_at END, true), (b.expires_at, false))
                AS due (due_at, vests)
        WHERE lot_id BETWEEN c.account_id << 24 AND c.account_id << 24 | x'ffffff'::int AND due_at <= until
        ORDER BY due_at, vests DESC, lot_id
    LOOP
        c := points_fall_due(c, d.lot_id, d.vests, d.due_at);
        c.judged_at := greatest(c.judged_at, d.due_at);
    END LOOP;
    c.next_due_at := (
        SELECT min(CASE WHEN is_pending THEN available_at ELSE expires_at END) FROM points_lotbalance
        WHERE lot_id BETWEEN c.account_id << 24 AND c.account_id << 24 | x'ffffff'::int
    );
END $$;

CREATE FUNCTION points_do_earn(INOUT c points_cursor, p jsonb) LANGUAGE plpgsql AS $$
DECLARE
    a points_accrual;
    accrual record;
    the_lot_id bigint;
    total bigint := (SELECT coalesce(sum((x ->> 'points')::bigint), 0) FROM jsonb_array_elements(p -> 'accruals') x);
BEGIN
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

CREATE FUNCTION points_do_burn(INOUT c points_cursor, p_points bigint, p_to int) LANGUAGE plpgsql AS $$
BEGIN
    IF c.available < p_points THEN
        RAISE EXCEPTION '% points asked, % available', p_points, c.available USING ERRCODE = 'PN001',
            DETAIL = json_build_object('asked', p_points, 'available', c.available)::text;
    END IF;
    c := points_move(c, 1, p_to, p_points);
    c := points_take(c, p_points);
END $$;

-- Take back what a refund takes away from its lines' accruals: from each accrual's own lot, then by policy. A lot
-- that has expired gives nothing and costs nothing: its points are gone already. Holds are never touched.
CREATE FUNCTION points_do_clawback(INOUT c points_cursor, p jsonb) LANGUAGE plpgsql AS $$
DECLARE
    r points_accrualreturn;
    a record;
    b points_lotbalance;
    part bigint;
    due bigint;
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
        r.points_taken := 0;
        IF due > 0 AND (a.expires_at IS NULL OR a.expires_at > c.judged_at) THEN
            SELECT * INTO b FROM points_lotbalance WHERE lot_id = a.lot_id;
            IF FOUND THEN
                part := least(due, b.remaining);
                c := points_allocate(c, a.lot_id, part);
                r.points_taken := part;
                IF b.is_pending THEN
                    from_pending := from_pending + part;
                ELSE
                    from_available := from_available + part;
                END IF;
            END IF;
            IF r.points_taken < due AND p ->> 'policy' <> 'own_lot' THEN
                c := points_take(c, due - r.points_taken);
                from_available := from_available + c.result;
                r.points_taken := r.points_taken + c.result;
                IF r.points_taken < due AND p ->> 'policy' = 'debt' THEN
                    from_debt := from_debt + due - r.points_taken;
                    r.points_taken := due;
                ELSIF r.points_taken < due AND p ->> 'policy' = 'refuse' THEN
                    RAISE EXCEPTION 'the refund takes back % points, % are left', due, r.points_taken
                        USING ERRCODE = 'PN004',
                        DETAIL = json_build_object('asked', due, 'available', r.points_taken)::text;
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

-- Undo a burn or an adjustment. Points given go back to the lots they came from; points that an adjustment brought
-- are taken from its own lot, then from others, then become debt. Returns to expired lots expire at once.
CREATE FUNCTION points_do_reverse(INOUT c points_cursor, p_transaction_id bigint) LANGUAGE plpgsql AS $$
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
    IF e.from_bucket = 1 THEN
        c := points_move(c, e.to_bucket, 1, e.points);
        FOR m IN
            SELECT lot_id, a.points FROM points_lotallocation a
            WHERE a.id BETWEEN t.id AND t.id | x'ffffff'::int AND transaction_id = t.id ORDER BY a.id
        LOOP
            c := points_allocate(c, m.lot_id, -m.points);
            c := points_repay(c, m.lot_id, m.points);
        END LOOP;
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
    c.earned := c.earned - points;
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
        c := points_move(c, 4, 11, points - m.remaining - part);
    END IF;
END $$;

-- Find the hold that a capture, a release or a giving back names.
CREATE FUNCTION points_find_hold(c points_cursor, p_reference text) RETURNS points_hold LANGUAGE plpgsql AS $$
DECLARE
    h points_hold;
BEGIN
    SELECT * INTO h FROM points_hold
    WHERE member_id = c.member_id AND wallet_id = c.wallet_id AND reference = p_reference;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the account has no hold %', p_reference USING ERRCODE = 'PN006';
    END IF;
    RETURN h;
END $$;

-- Give back a stretch of what a hold took, to the lots it was taken from. A hold's allocations are laid end to end,
-- what expires first at the front. Captures stand at the front, of what was captured the last comes back first, and a
-- release takes all behind it: so four numbers say which point of which lot is where.
CREATE FUNCTION points_return_held(INOUT c points_cursor, p_hold_id bigint, p_from bigint, p_until bigint)
LANGUAGE plpgsql AS $$
DECLARE
    m record;
BEGIN
    FOR m IN
        SELECT lot_id, least(ends_at, p_until) - greatest(ends_at - points, p_from) AS points
        FROM (
            SELECT id, lot_id, points, (sum(points) OVER (ORDER BY id))::bigint AS ends_at FROM points_lotallocation
            WHERE id BETWEEN p_hold_id AND p_hold_id | x'ffffff'::int AND transaction_id = p_hold_id
        ) a
        WHERE ends_at > p_from AND ends_at - points < p_until ORDER BY id
    LOOP
        c := points_allocate(c, m.lot_id, -m.points);
        c := points_repay(c, m.lot_id, m.points);
    END LOOP;
END $$;

-- Capture (4), release (5) or give back (12) of a hold. A hold is captured once; a release takes all that is left.
CREATE FUNCTION points_do_settle_hold(INOUT c points_cursor, p_kind int, h points_hold, p_points bigint)
LANGUAGE plpgsql AS $$
DECLARE
    room bigint := CASE
        WHEN p_kind = 12 THEN h.captured - h.returned
        WHEN p_kind = 4 AND h.captured > 0 THEN 0
        ELSE h.points - h.captured - h.released END;
    part bigint := coalesce(p_points, room);
BEGIN
    IF room = 0 OR part > room THEN
        RAISE EXCEPTION '% points asked of a hold, % are left', part, room USING ERRCODE = 'PN007',
            DETAIL = json_build_object('asked', part, 'left', room)::text;
    END IF;
    CASE p_kind
        WHEN 4 THEN
            c := points_move(c, 3, 12, part);
            c.redeemed := c.redeemed + part;
            UPDATE points_hold SET captured = part WHERE transaction_id = h.transaction_id;
        WHEN 5 THEN
            c := points_move(c, 3, 1, part);
            c := points_return_held(c, h.transaction_id, h.captured, h.points);
            UPDATE points_hold SET released = part WHERE transaction_id = h.transaction_id;
        WHEN 12 THEN
            c := points_move(c, 12, 1, part);
            c := points_return_held(c, h.transaction_id, room - part, room);
            c.redeemed := c.redeemed - part;
            UPDATE points_hold SET returned = returned + part WHERE transaction_id = h.transaction_id;
    END CASE;
END $$;

-- Lock one account, making it first if this is its first posting, and read it into a cursor.
CREATE FUNCTION points_open_account(p_member_id bigint, p_wallet_id bigint, p_recorded_at timestamptz)
RETURNS points_cursor LANGUAGE plpgsql AS $$
DECLARE
    a points_account;
    c points_cursor;
BEGIN
    LOOP
        SELECT * INTO a FROM points_account WHERE member_id = p_member_id AND wallet_id = p_wallet_id
        FOR NO KEY UPDATE;
        EXIT WHEN FOUND;
        INSERT INTO points_account (member_id, wallet_id, available, pending, held, debt, lifetime_earned,
            lifetime_redeemed, seq, head_hash)
        VALUES (p_member_id, p_wallet_id, 0, 0, 0, 0, 0, 0, 0, points_no_hash()) ON CONFLICT DO NOTHING;
    END LOOP;
    c.account_id := a.id;
    c.member_id := a.member_id;
    c.wallet_id := a.wallet_id;
    c.available := a.available;
    c.pending := a.pending;
    c.held := a.held;
    c.debt := a.debt;
    c.earned := a.lifetime_earned;
    c.redeemed := a.lifetime_redeemed;
    c.seq := a.seq;
    c.head := a.head_hash;
    c.judged_at := a.last_effective_at;
    c.next_due_at := a.next_due_at;
    c.recorded_at := p_recorded_at;
    RETURN c;
END $$;

CREATE FUNCTION points_close_account(c points_cursor) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE points_account SET
        available = c.available, pending = c.pending, held = c.held, debt = c.debt,
        lifetime_earned = c.earned, lifetime_redeemed = c.redeemed, seq = c.seq, head_hash = c.head,
        last_effective_at = c.judged_at, next_due_at = c.next_due_at
    WHERE id = c.account_id;
END $$;

-- Post one posting whose key is new to the account in hand. The result is its transaction, none for a clawback of
-- lines that have earned nothing here.
CREATE FUNCTION points_post_new(INOUT c points_cursor, p jsonb) LANGUAGE plpgsql AS $$
DECLARE
    kind int := p ->> 'kind';
    points bigint := p ->> 'points';
    source_id bigint := p ->> 'source_id';
    reverses_id bigint := p ->> 'reverses';
    h points_hold;
    lot record;
BEGIN
    IF kind = 11 AND NOT EXISTS (
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
            c := points_do_reverse(c, reverses_id);
        WHEN 9 THEN
            IF points > 0 THEN
                c := points_open_lot(c, points, (p ->> 'available_at')::timestamptz, (p ->> 'expires_at')::timestamptz);
            ELSE
                c := points_do_burn(c, -points, 11);
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

-- Post a batch, atomically, and publish one event for it. Answers one row per posting, in the order of the batch.
-- Locks: each account once, in order of (member, wallet).
CREATE FUNCTION points_post(p_program_id bigint, p_postings jsonb, p_recorded_at timestamptz)
RETURNS TABLE (n int, transaction_id bigint, is_new bool, available bigint, pending bigint, held bigint, debt bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    c points_cursor;
    q record;
    seen record;
    made jsonb := '[]';
BEGIN
    FOR q IN
        SELECT p, ordinality::int AS n, (p ->> 'member')::bigint AS member, (p ->> 'wallet')::bigint AS wallet
        FROM jsonb_array_elements(p_postings) WITH ORDINALITY AS x (p, ordinality)
        ORDER BY 3, 4, 2
    LOOP
        IF c.account_id IS NULL OR c.member_id <> q.member OR c.wallet_id <> q.wallet THEN
            IF c.account_id IS NOT NULL THEN
                PERFORM points_close_account(c);
            END IF;
            c := points_open_account(q.member, q.wallet, p_recorded_at);
        END IF;
        SELECT t.id, t.request_digest INTO seen FROM points_ledgertransaction t
        WHERE t.member_id = c.member_id AND t.wallet_id = c.wallet_id AND t.key_digest = decode(q.p ->> 'key', 'hex');
        IF NOT FOUND THEN
            c := points_post_new(c, q.p);
            transaction_id := c.result;
            is_new := c.result IS NOT NULL;
            IF is_new THEN
                made := made || to_jsonb(c.result);
            END IF;
        ELSIF seen.request_digest <> decode(q.p ->> 'request', 'hex') THEN
            RAISE EXCEPTION 'the key has already posted something else' USING ERRCODE = 'PN002',
                DETAIL = json_build_object('transaction', seen.id)::text;
        ELSE
            transaction_id := seen.id;
            is_new := false;
        END IF;
        n := q.n;
        available := c.available;
        pending := c.pending;
        held := c.held;
        debt := c.debt;
        RETURN NEXT;
    END LOOP;
    IF c.account_id IS NOT NULL THEN
        PERFORM points_close_account(c);
    END IF;
    IF made <> '[]' THEN
        INSERT INTO core_outboxevent (program_id, topic, payload, recorded_at)
        VALUES (p_program_id, 'points.posted', jsonb_build_object('transactions', made), p_recorded_at);
    END IF;
END $$;
