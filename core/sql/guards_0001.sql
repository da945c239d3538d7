-- Triggers shared by every app. Installed on tables by the migrations that create them.

CREATE FUNCTION core_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % refused: the table is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- A published version never changes; it may only be retired, once. Only drafts may be deleted.
CREATE FUNCTION core_guard_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status = 'draft' THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.status = 'published' AND NEW.status = 'retired'
       AND (NEW.definition, NEW.number, NEW.published_at, NEW.effective_at)
           IS NOT DISTINCT FROM (OLD.definition, OLD.number, OLD.published_at, OLD.effective_at) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% on % refused: version % is %', TG_OP, TG_TABLE_NAME, OLD.number, OLD.status
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- Currency and zone give every stored day and amount its meaning, and what was tried out in a sandbox never counts:
-- fixed once the first fact is in.
CREATE FUNCTION core_guard_program() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.opened_at IS NOT NULL
       AND (NEW.currency, NEW.time_zone, NEW.is_sandbox, NEW.opened_at)
           IS DISTINCT FROM (OLD.currency, OLD.time_zone, OLD.is_sandbox, OLD.opened_at) THEN
        RAISE EXCEPTION 'program % has facts: its currency, its time zone and whether it is a sandbox are fixed', OLD.code
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER core_program_guard BEFORE UPDATE ON core_program FOR EACH ROW EXECUTE FUNCTION core_guard_program();

-- A key stays what it was issued as; what may change are its name, its rights and its end, but a revoked one stays so.
CREATE FUNCTION core_guard_api_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.program_id, NEW.prefix, NEW.secret_digest, NEW.rotated_from_id, NEW.created_at)
           IS DISTINCT FROM (OLD.program_id, OLD.prefix, OLD.secret_digest, OLD.rotated_from_id, OLD.created_at)
       OR OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at THEN
        RAISE EXCEPTION 'key % refused: its program, prefix, secret, origin and revocation are fixed', OLD.prefix
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER core_apikey_guard BEFORE UPDATE ON core_apikey FOR EACH ROW EXECUTE FUNCTION core_guard_api_key();
ALTER TABLE core_apikey
    ADD CONSTRAINT apikey_digest CHECK (octet_length(secret_digest) = 32),
    ADD CONSTRAINT apikey_prefix CHECK (prefix ~ '^[a-z0-9]{12}$'),
    ADD CONSTRAINT apikey_rate CHECK (rate_per_minute > 0);
-- A key has one successor, however often its rotation is sent.
CREATE UNIQUE INDEX apikey_successor ON core_apikey (rotated_from_id) WHERE rotated_from_id IS NOT NULL;

-- The audit trail is append-only, but for what is older than a year, and then by core_forget_audit alone.
CREATE TRIGGER core_auditentry_append_only BEFORE UPDATE ON core_auditentry
    FOR EACH ROW EXECUTE FUNCTION core_refuse_change();
CREATE TRIGGER core_auditentry_kept BEFORE DELETE ON core_auditentry
    FOR EACH ROW WHEN (OLD.recorded_at >= now() - interval '1 year'
        OR current_setting('perennial.forgets_audit', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION core_refuse_change();
CREATE TRIGGER core_auditentry_no_truncate BEFORE TRUNCATE ON core_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();

-- Remove the audit entries before an instant, a year back or more, and return how many they were. With the rights of
-- the owner: the application's role may delete nothing here by itself.
CREATE FUNCTION core_forget_audit(p_before timestamptz) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET perennial.forgets_audit = 'on' AS $$
DECLARE
    gone bigint;
BEGIN
    DELETE FROM core_auditentry WHERE recorded_at < p_before;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;
