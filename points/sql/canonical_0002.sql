-- A return that says what was owed has a form of its own; one from before that column keeps the bytes it was hashed with.
CREATE OR REPLACE FUNCTION points_bytes(r points_accrualreturn) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE WHEN r.points_owed IS NULL THEN '\x52'::bytea ELSE '\x72'::bytea END
    || int8send(r.id) || int8send(r.member_id) || int8send(r.transaction_id) || int8send(r.accrual_id)
    || int2send(r.source_kind) || int8send(r.source_id) || int8send(r.returned) || int8send(r.whole)
    || int8send(r.points_due) || coalesce(int8send(r.points_owed), '') || int8send(r.points_taken);

CREATE FUNCTION points_bytes(k points_accrualcorrection) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    '\x4b'::bytea || int8send(k.id) || int8send(k.member_id) || int8send(k.transaction_id) || int8send(k.accrual_id)
    || int8send(coalesce(k.lot_id, 0)) || int2send(k.fact_kind) || int8send(coalesce(k.fact_id, 0))
    || int8send(coalesce(k.evaluation_id, 0)) || int8send(k.basis) || int4send(k.multiplier_bps) || int8send(k.points)
    || int2send(k.reason) || int8send(k.returned) || int8send(k.whole) || int8send(k.points_added)
    || int8send(k.points_due) || int8send(k.points_owed) || int8send(k.points_taken);
