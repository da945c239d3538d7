-- What the database itself refuses in referrals. The functions core_refuse_change and core_guard_version are core's.

CREATE TRIGGER referrals_referralpolicyversion_guard BEFORE UPDATE OR DELETE ON referrals_referralpolicyversion
    FOR EACH ROW EXECUTE FUNCTION core_guard_version();

-- A code belongs to whom it was given to.
CREATE TRIGGER referrals_referralcode_fixed BEFORE UPDATE ON referrals_referralcode
    FOR EACH ROW EXECUTE FUNCTION core_refuse_change();

-- Who was brought by whom is told once. The state goes forward, and with it alone what follows from it; what a pending
-- referral waits for may change.
CREATE FUNCTION referrals_guard_referral() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.program_id, NEW.member_id, NEW.referrer_id, NEW.upline_id, NEW.member_joined_at,
        NEW.referrer_joined_at, NEW.source, NEW.code_id, NEW.touched_at, NEW.version_id, NEW.bound_at)
       IS DISTINCT FROM
       (OLD.id, OLD.program_id, OLD.member_id, OLD.referrer_id, OLD.upline_id, OLD.member_joined_at,
        OLD.referrer_joined_at, OLD.source, OLD.code_id, OLD.touched_at, OLD.version_id, OLD.bound_at) THEN
        RAISE EXCEPTION 'referral % refused: who was brought by whom never changes', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF OLD.state <> 'pending' AND (NEW.order_id, NEW.market) IS DISTINCT FROM (OLD.order_id, OLD.market)
       OR OLD.qualified_at IS NOT NULL AND NEW.qualified_at IS DISTINCT FROM OLD.qualified_at
       OR NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
            ('pending', 'flagged'), ('pending', 'qualified'), ('pending', 'rejected'),
            ('flagged', 'qualified'), ('flagged', 'rejected'), ('flagged', 'reversed'), ('qualified', 'reversed')) THEN
        RAISE EXCEPTION 'referral % refused: % does not become %', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER referrals_referral_guard BEFORE UPDATE ON referrals_referral
    FOR EACH ROW EXECUTE FUNCTION referrals_guard_referral();
CREATE TRIGGER referrals_referral_kept BEFORE DELETE OR TRUNCATE ON referrals_referral
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();

-- A reward keeps what was promised and goes forward; one that was cancelled stands again if its order counts anew.
CREATE FUNCTION referrals_guard_reward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.program_id, NEW.member_id, NEW.referral_id, NEW.event, NEW.level, NEW.wallet_id, NEW.points,
        NEW.coupon, NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.program_id, OLD.member_id, OLD.referral_id, OLD.event, OLD.level, OLD.wallet_id, OLD.points,
        OLD.coupon, OLD.created_at)
       OR NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
            ('pending', 'flagged'), ('pending', 'approved'), ('pending', 'rejected'), ('pending', 'cancelled'),
            ('flagged', 'approved'), ('flagged', 'rejected'), ('flagged', 'cancelled'),
            ('approved', 'paid'), ('approved', 'rejected'), ('approved', 'cancelled'), ('paid', 'clawed_back'),
            ('cancelled', 'pending')) THEN
        RAISE EXCEPTION 'reward % refused: it keeps what was promised, and % does not become %',
            OLD.id, OLD.state, NEW.state USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER referrals_referralreward_guard BEFORE UPDATE ON referrals_referralreward
    FOR EACH ROW EXECUTE FUNCTION referrals_guard_reward();
CREATE TRIGGER referrals_referralreward_kept BEFORE DELETE OR TRUNCATE ON referrals_referralreward
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();
