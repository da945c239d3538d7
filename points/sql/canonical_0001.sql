-- The bytes of a ledger row that its account's hash chain covers: fixed width, ids and numbers and instants only.
-- One definition, used by every function that posts and by verify.

-- 32 zero bytes: no digest, and the head of an account before its first transaction.
CREATE FUNCTION points_no_hash() RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    '\x0000000000000000000000000000000000000000000000000000000000000000'::bytea;

CREATE FUNCTION points_transaction_bytes(
    id bigint, member_id bigint, wallet_id bigint, kind int, source_kind int, source_id bigint, reverses_id bigint,
    effective_at timestamptz, recorded_at timestamptz, key_digest bytea, request_digest bytea, note_digest bytea
) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    '\x54'::bytea || int8send(id) || int8send(member_id) || int8send(wallet_id) || int4send(kind)
    || int4send(source_kind) || int8send(source_id) || int8send(coalesce(reverses_id, 0))
    || timestamptz_send(effective_at) || timestamptz_send(recorded_at)
    || key_digest || request_digest || coalesce(note_digest, points_no_hash());

CREATE FUNCTION points_bytes(t points_ledgertransaction) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    points_transaction_bytes(t.id, t.member_id, t.wallet_id, t.kind, t.source_kind, t.source_id, t.reverses_id,
        t.effective_at, t.recorded_at, t.key_digest, t.request_digest, t.note_digest);

CREATE FUNCTION points_entry_bytes(
    id bigint, member_id bigint, transaction_id bigint, from_bucket int, to_bucket int, points bigint,
    from_balance_after bigint, to_balance_after bigint
) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    '\x45'::bytea || int8send(id) || int8send(member_id) || int8send(transaction_id)
    || int4send(from_bucket) || int4send(to_bucket) || int8send(points)
    || int8send(coalesce(from_balance_after, 0)) || int8send(coalesce(to_balance_after, 0));

CREATE FUNCTION points_bytes(e points_ledgerentry) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    points_entry_bytes(e.id, e.member_id, e.transaction_id, e.from_bucket, e.to_bucket, e.points,
        e.from_balance_after, e.to_balance_after);

CREATE FUNCTION points_bytes(l points_lot) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    '\x4c'::bytea || int8send(l.id) || int8send(l.member_id) || int8send(l.transaction_id) || int8send(l.points)
    || timestamptz_send(l.available_at) || timestamptz_send(coalesce(l.expires_at, 'infinity'));

CREATE FUNCTION points_allocation_bytes(
    id bigint, member_id bigint, transaction_id bigint, lot_id bigint, points bigint
) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    '\x4d'::bytea || int8send(id) || int8send(member_id) || int8send(transaction_id) || int8send(lot_id)
    || int8send(points);

CREATE FUNCTION points_bytes(a points_lotallocation) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    points_allocation_bytes(a.id, a.member_id, a.transaction_id, a.lot_id, a.points);

CREATE FUNCTION points_bytes(a points_accrual) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    '\x41'::bytea || int8send(a.id) || int8send(a.member_id) || int8send(a.transaction_id) || int8send(a.wallet_id)
    || int8send(coalesce(a.lot_id, 0)) || int2send(a.source_kind) || int8send(a.source_id)
    || int8send(coalesce(a.rule_version_id, 0)) || int8send(a.basis) || int4send(a.multiplier_bps) || int8send(a.points)
    || int8send(a.capped_points) || int2send(a.reason);

CREATE FUNCTION points_bytes(r points_accrualreturn) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    '\x52'::bytea || int8send(r.id) || int8send(r.member_id) || int8send(r.transaction_id) || int8send(r.accrual_id)
    || int2send(r.source_kind) || int8send(r.source_id) || int8send(r.returned) || int8send(r.whole)
    || int8send(r.points_due) || int8send(r.points_taken);

CREATE FUNCTION points_chain_step(state bytea, head bytea, content bytea) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN sha256(coalesce(state, head) || content);

-- points_chain(head, content) OVER (PARTITION BY account ORDER BY id): each row's hash, starting from the head.
CREATE AGGREGATE points_chain(bytea, bytea) (SFUNC = points_chain_step, STYPE = bytea);
