-- Orders and their lines, too, say what the last correction of the order says. What came back of them is kept beside.

CREATE FUNCTION membership_guard_order() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    correction jsonb;
BEGIN
    SELECT after INTO correction FROM membership_factcorrection
    WHERE fact_id = NEW.id AND fact_kind = 1 AND member_id IS NOT DISTINCT FROM NEW.member_id
    ORDER BY number DESC LIMIT 1;
    IF FOUND
       AND (NEW.program_id, NEW.member_id, NEW.external_id, NEW.currency, NEW.market, NEW.country, NEW.channel,
            NEW.device, NEW.content_digest, NEW.recorded_at)
           IS NOT DISTINCT FROM (OLD.program_id, OLD.member_id, OLD.external_id, OLD.currency, OLD.market, OLD.country,
            OLD.channel, OLD.device, OLD.content_digest, OLD.recorded_at)
       AND (NEW.paid_at, NEW.local_date, NEW.amount_minor, NEW.program_amount_minor)
           IS NOT DISTINCT FROM ((correction ->> 'paid_at')::timestamptz, (correction ->> 'local_date')::date,
            (correction ->> 'amount_minor')::bigint, (correction ->> 'program_amount_minor')::bigint) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% on % refused: no correction says so', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER membership_order_guard BEFORE UPDATE ON membership_order FOR EACH ROW
    WHEN ((NEW.program_id, NEW.member_id, NEW.external_id, NEW.paid_at, NEW.local_date, NEW.currency, NEW.amount_minor,
           NEW.program_amount_minor, NEW.market, NEW.country, NEW.channel, NEW.device, NEW.content_digest,
           NEW.recorded_at)
          IS DISTINCT FROM
          (OLD.program_id, OLD.member_id, OLD.external_id, OLD.paid_at, OLD.local_date, OLD.currency, OLD.amount_minor,
           OLD.program_amount_minor, OLD.market, OLD.country, OLD.channel, OLD.device, OLD.content_digest,
           OLD.recorded_at))
    EXECUTE FUNCTION membership_guard_order();

CREATE FUNCTION membership_guard_order_line() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    correction jsonb;
BEGIN
    SELECT after INTO correction FROM membership_factcorrection
    WHERE fact_id = NEW.order_id AND fact_kind = 1 AND member_id IS NOT DISTINCT FROM NEW.member_id
    ORDER BY number DESC LIMIT 1;
    IF FOUND
       AND (NEW.order_id, NEW.member_id, NEW.position, NEW.discount_minor, NEW.paid_in_points_minor, NEW.edit_id)
           IS NOT DISTINCT FROM
           (OLD.order_id, OLD.member_id, OLD.position, OLD.discount_minor, OLD.paid_in_points_minor, OLD.edit_id)
       AND correction -> 'lines' @> jsonb_build_array(jsonb_build_object(
            'id', NEW.id, 'external_id', NEW.external_id, 'sku', NEW.sku, 'category', NEW.category, 'units', NEW.units,
            'amount_minor', NEW.amount_minor, 'program_amount_minor', NEW.program_amount_minor,
            'program_paid_in_points_minor', NEW.program_paid_in_points_minor)) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% on % refused: no correction says so', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER membership_orderline_guard BEFORE UPDATE ON membership_orderline FOR EACH ROW
    WHEN ((NEW.order_id, NEW.member_id, NEW.external_id, NEW.position, NEW.sku, NEW.category, NEW.units,
           NEW.amount_minor, NEW.program_amount_minor, NEW.discount_minor, NEW.paid_in_points_minor,
           NEW.program_paid_in_points_minor, NEW.edit_id)
          IS DISTINCT FROM
          (OLD.order_id, OLD.member_id, OLD.external_id, OLD.position, OLD.sku, OLD.category, OLD.units,
           OLD.amount_minor, OLD.program_amount_minor, OLD.discount_minor, OLD.paid_in_points_minor,
           OLD.program_paid_in_points_minor, OLD.edit_id))
    EXECUTE FUNCTION membership_guard_order_line();
