-- How a member stands at an instant in every wallet of the program, or in one. Lots that are due and not settled come in
-- full, of the others the first ones with what is asked of all of them. One statement sees one state. A function, because
-- planning the statement anew costs more than running it.
CREATE FUNCTION points_standings(p_member_id bigint, p_at timestamptz, p_wallet_id bigint, p_lots int)
RETURNS TABLE (
    wallet_id bigint, code varchar, name varchar, account_id bigint, available bigint, pending bigint, held bigint,
    debt bigint, lifetime_earned bigint, lifetime_redeemed bigint, judged_at timestamptz, due_lots jsonb, live_lots jsonb,
    live_count bigint, next_points bigint
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT w.id, w.code, w.name, a.id, a.available, a.pending, a.held, -a.debt, a.lifetime_earned, a.lifetime_redeemed,
        judged.at, due.lots, live.lots, live.total, live.next_points
    FROM points_wallet w
    LEFT JOIN points_account a ON a.wallet_id = w.id AND a.member_id = p_member_id
    CROSS JOIN LATERAL (SELECT greatest(p_at, a.last_effective_at)) judged (at)
    LEFT JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_array(lot_id, remaining, is_pending, available_at, expires_at)
            ORDER BY available_at, lot_id) AS lots
        FROM points_lotbalance
        WHERE lot_id >= a.id << 24 AND lot_id < (a.id + 1) << 24
            AND CASE WHEN is_pending THEN available_at ELSE expires_at END <= judged.at
    ) due ON a.next_due_at <= judged.at
    LEFT JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_array(lot_id, remaining, is_pending, available_at, expires_at) ORDER BY n)
                FILTER (WHERE n <= p_lots) AS lots,
            count(*) AS total, sum(remaining) FILTER (WHERE expires_at = next_at)::bigint AS next_points
        FROM (
            SELECT *, row_number() OVER (ORDER BY expires_at NULLS LAST, lot_id) AS n,
                min(expires_at) OVER () AS next_at
            FROM points_lotbalance
            WHERE lot_id >= a.id << 24 AND lot_id < (a.id + 1) << 24
                AND CASE WHEN is_pending THEN available_at ELSE coalesce(expires_at, 'infinity') END > judged.at
        ) numbered
    ) live ON a.id IS NOT NULL
    WHERE w.program_id = (SELECT program_id FROM membership_member WHERE id = p_member_id)
        AND (p_wallet_id IS NULL OR w.id = p_wallet_id)
    ORDER BY w.id;
END $$;
