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

-- Currency and zone give every stored day and amount its meaning: fixed once the first fact is in.
CREATE FUNCTION core_guard_program() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.opened_at IS NOT NULL
       AND (NEW.currency, NEW.time_zone, NEW.opened_at) IS DISTINCT FROM (OLD.currency, OLD.time_zone, OLD.opened_at) THEN
        RAISE EXCEPTION 'program % has facts: its currency and time zone are fixed', OLD.code
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER core_program_guard BEFORE UPDATE ON core_program FOR EACH ROW EXECUTE FUNCTION core_guard_program();

CREATE TRIGGER core_auditentry_append_only BEFORE UPDATE OR DELETE ON core_auditentry
    FOR EACH ROW EXECUTE FUNCTION core_refuse_change();
CREATE TRIGGER core_auditentry_no_truncate BEFORE TRUNCATE ON core_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();
