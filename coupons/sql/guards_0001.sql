-- What the database itself refuses in coupons. The function core_guard_version is core's.

CREATE TRIGGER coupons_coupondefinitionversion_guard BEFORE UPDATE OR DELETE ON coupons_coupondefinitionversion
    FOR EACH ROW EXECUTE FUNCTION core_guard_version();

-- The states go forward. A claim comes back only where its order came back: from used to open, or to revoked if it was
-- the checkout's own.
CREATE FUNCTION coupons_guard_claim() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.public_id, NEW.member_id, NEW.definition_id, NEW.version_id, NEW.number, NEW.source)
           IS DISTINCT FROM (OLD.public_id, OLD.member_id, OLD.definition_id, OLD.version_id, OLD.number, OLD.source)
       OR OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
           ('open', 'held'), ('open', 'revoked'), ('held', 'used'), ('held', 'open'), ('held', 'revoked'),
           ('used', 'open'), ('used', 'revoked')) THEN
        RAISE EXCEPTION 'claim % stays %', OLD.public_id, OLD.state USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER coupons_claim_guard BEFORE UPDATE ON coupons_claim
    FOR EACH ROW EXECUTE FUNCTION coupons_guard_claim();

CREATE FUNCTION coupons_guard_redemption() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.public_id, NEW.member_id, NEW.claim_id, NEW.reference, NEW.currency, NEW.discount_minor,
            NEW.shipping_discount_minor)
           IS DISTINCT FROM (OLD.public_id, OLD.member_id, OLD.claim_id, OLD.reference, OLD.currency,
            OLD.discount_minor, OLD.shipping_discount_minor)
       OR OLD.state <> NEW.state
           AND (OLD.state, NEW.state) NOT IN (('held', 'committed'), ('held', 'released'), ('committed', 'reversed')) THEN
        RAISE EXCEPTION 'redemption % stays %', OLD.public_id, OLD.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER coupons_redemption_guard BEFORE UPDATE ON coupons_redemption
    FOR EACH ROW EXECUTE FUNCTION coupons_guard_redemption();

CREATE FUNCTION coupons_guard_redemption_line() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.discount_minor <> OLD.discount_minor OR NEW.reversed_minor < OLD.reversed_minor THEN
        RAISE EXCEPTION 'what came back of a redemption stays' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER coupons_redemptionline_guard BEFORE UPDATE ON coupons_redemptionline
    FOR EACH ROW EXECUTE FUNCTION coupons_guard_redemption_line();
