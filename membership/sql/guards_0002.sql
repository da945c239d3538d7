-- What was told is corrected by a row that names it, and by nothing else. core_refuse_change is core's.

CREATE TRIGGER membership_factcorrection_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON membership_factcorrection
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();

-- An activity says what its last correction says. Its owner, its key and what it was about never change.
CREATE FUNCTION membership_guard_activity() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    correction record;
BEGIN
    SELECT number, after INTO correction FROM membership_factcorrection
    WHERE fact_id = NEW.id AND fact_kind = 5 AND member_id = NEW.member_id ORDER BY number DESC LIMIT 1;
    IF FOUND
       AND (NEW.member_id, NEW.source, NEW.external_id, NEW.quality, NEW."order", NEW.product, NEW.content_digest,
            NEW.recorded_at)
           IS NOT DISTINCT FROM (OLD.member_id, OLD.source, OLD.external_id, OLD.quality, OLD."order", OLD.product,
            OLD.content_digest, OLD.recorded_at)
       AND (NEW.kind, NEW.occurred_at, NEW.local_date, NEW.voided_at)
           IS NOT DISTINCT FROM (correction.after ->> 'kind', (correction.after ->> 'occurred_at')::timestamptz,
            (correction.after ->> 'local_date')::date, (correction.after ->> 'voided_at')::timestamptz) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% on % refused: no correction says so', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER membership_activity_guard BEFORE UPDATE ON membership_activity
    FOR EACH ROW EXECUTE FUNCTION membership_guard_activity();
