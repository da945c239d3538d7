-- What the database itself refuses in membership. The functions core_refuse_change and core_guard_version are core's.

CREATE TRIGGER membership_ladderversion_guard BEFORE UPDATE OR DELETE ON membership_ladderversion
    FOR EACH ROW EXECUTE FUNCTION core_guard_version();

CREATE TRIGGER membership_qualifyingcredit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON membership_qualifyingcredit
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();

CREATE TRIGGER membership_orderedit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON membership_orderedit
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();

-- A tier period never changes and never goes; it may only end its life, once.
CREATE FUNCTION membership_guard_tier_period() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.superseded_at IS NULL AND NEW.superseded_at IS NOT NULL THEN
        OLD.superseded_at := NEW.superseded_at;
        IF NEW IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION '% on % refused: only superseded_at may be set, once', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER membership_tierperiod_guard BEFORE UPDATE ON membership_tierperiod
    FOR EACH ROW EXECUTE FUNCTION membership_guard_tier_period();
CREATE TRIGGER membership_tierperiod_no_delete BEFORE DELETE OR TRUNCATE ON membership_tierperiod
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();

-- An override keeps what was decided; it may only be ended, once.
CREATE FUNCTION membership_guard_tier_override() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.lifted_at IS NULL AND NEW.lifted_at IS NOT NULL THEN
        OLD.lifted_at := NEW.lifted_at;
        IF NEW IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION '% on % refused: only lifted_at may be set, once', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER membership_tieroverride_guard BEFORE UPDATE ON membership_tieroverride
    FOR EACH ROW EXECUTE FUNCTION membership_guard_tier_override();
CREATE TRIGGER membership_tieroverride_no_delete BEFORE DELETE OR TRUNCATE ON membership_tieroverride
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();
