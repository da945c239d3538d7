-- What of a batch the ledger refuses when its facts are posted one after the other, in the order of the batch. Each
-- fact's postings stand or fall together, in a subtransaction of their own: what a refused one took is free for those
-- after it. Answers the sources that were refused; the caller takes everything back.
-- Locks: as points_post, the accounts in the order of the batch; the caller has locked them by points_lock_accounts.
CREATE FUNCTION points_find_refused(p_program_id bigint, p_postings jsonb, p_recorded_at timestamptz)
RETURNS TABLE (source_kind int, source_id bigint, code text, reason text) LANGUAGE plpgsql AS $$
DECLARE
    fact record;
BEGIN
    FOR fact IN
        SELECT (p ->> 'source_kind')::int AS kind, (p ->> 'source_id')::bigint AS id,
            jsonb_agg(p ORDER BY ordinality) AS postings
        FROM jsonb_array_elements(p_postings) WITH ORDINALITY AS x (p, ordinality)
        GROUP BY 1, 2 ORDER BY min(ordinality)
    LOOP
        BEGIN
            PERFORM FROM points_post(p_program_id, fact.postings, p_recorded_at);
        EXCEPTION WHEN SQLSTATE 'PN004' OR numeric_value_out_of_range THEN
            source_kind := fact.kind;
            source_id := fact.id;
            code := SQLSTATE;
            reason := SQLERRM;
            RETURN NEXT;
        END;
    END LOOP;
END $$;
