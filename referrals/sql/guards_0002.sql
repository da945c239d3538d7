-- The guards of guards_0001.sql, for referrals that are rejected from any state, reopened, or decided anew when facts
-- come late.

CREATE OR REPLACE FUNCTION referrals_guard_referral() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.program_id, NEW.member_id, NEW.referrer_id, NEW.upline_id, NEW.member_joined_at,
        NEW.referrer_joined_at, NEW.source, NEW.code_id, NEW.touched_at, NEW.version_id, NEW.bound_at)
       IS DISTINCT FROM
       (OLD.id, OLD.program_id, OLD.member_id, OLD.referrer_id, OLD.upline_id, OLD.member_joined_at,
        OLD.referrer_joined_at, OLD.source, OLD.code_id, OLD.touched_at, OLD.version_id, OLD.bound_at) THEN
        RAISE EXCEPTION 'referral % refused: who was brought by whom never changes', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.state = OLD.state AND OLD.state = 'rejected'
            AND (NEW.order_id, NEW.market) IS DISTINCT FROM (OLD.order_id, OLD.market)
       OR NEW.state = OLD.state AND NEW.qualified_at IS DISTINCT FROM OLD.qualified_at
       OR NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
            ('pending', 'flagged'), ('pending', 'qualified'), ('pending', 'rejected'), ('pending', 'reversed'),
            ('flagged', 'pending'), ('flagged', 'qualified'), ('flagged', 'rejected'), ('flagged', 'reversed'),
            ('qualified', 'pending'), ('qualified', 'rejected'), ('qualified', 'reversed'),
            ('rejected', 'pending'), ('reversed', 'pending'), ('reversed', 'rejected')) THEN
        RAISE EXCEPTION 'referral % refused: % does not become %', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

-- What was taken back or rejected stays so; promised anew it is a row of the next round.
CREATE OR REPLACE FUNCTION referrals_guard_reward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.program_id, NEW.member_id, NEW.referral_id, NEW.event, NEW.level, NEW.round, NEW.wallet_id,
        NEW.points, NEW.coupon, NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.program_id, OLD.member_id, OLD.referral_id, OLD.event, OLD.level, OLD.round, OLD.wallet_id,
        OLD.points, OLD.coupon, OLD.created_at)
       OR NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
            ('pending', 'flagged'), ('pending', 'approved'), ('pending', 'rejected'), ('pending', 'cancelled'),
            ('flagged', 'pending'), ('flagged', 'approved'), ('flagged', 'rejected'), ('flagged', 'cancelled'),
            ('approved', 'pending'), ('approved', 'flagged'), ('approved', 'paid'), ('approved', 'rejected'),
            ('approved', 'cancelled'), ('paid', 'clawed_back'), ('cancelled', 'pending')) THEN
        RAISE EXCEPTION 'reward % refused: it keeps what was promised, and % does not become %',
            OLD.id, OLD.state, NEW.state USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
