-- The ledger is append-only: the database refuses what the application must never do.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['points_ledgertransaction', 'points_ledgerentry', 'points_lot', 'points_lotallocation',
                                'points_accrual', 'points_accrualreturn']
    LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION core_refuse_change()',
            name || '_append_only', name);
        EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change()',
            name || '_no_truncate', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['points_walletversion', 'points_earnruleversion'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION core_guard_version()',
            name || '_guard', name);
    END LOOP;
END $$;

-- The chain covers bytes of fixed width: no byte may move from one digest to the next.
ALTER TABLE points_ledgertransaction ADD CONSTRAINT ledgertransaction_widths CHECK (
    octet_length(key_digest) = 16 AND octet_length(request_digest) = 16 AND octet_length(note_digest) = 32
    AND octet_length(hash) = 32);

-- A lot that ended before it began could be neither vested nor expired, and would stop the expiry job for good.
ALTER TABLE points_lot ADD CONSTRAINT lot_lives CHECK (expires_at >= available_at);

-- An account goes nowhere, and joins a member and a wallet of one program.
CREATE TRIGGER points_account_no_delete BEFORE DELETE ON points_account FOR EACH ROW EXECUTE FUNCTION core_refuse_change();
CREATE TRIGGER points_account_no_truncate BEFORE TRUNCATE ON points_account
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();

CREATE FUNCTION points_guard_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT program_id FROM membership_member WHERE id = NEW.member_id)
        <> (SELECT program_id FROM points_wallet WHERE id = NEW.wallet_id) THEN
        RAISE EXCEPTION 'member % and wallet % belong to different programs', NEW.member_id, NEW.wallet_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER points_account_guard BEFORE INSERT OR UPDATE OF member_id, wallet_id ON points_account
    FOR EACH ROW EXECUTE FUNCTION points_guard_account();

-- Balance rows are rewritten in place: room on the page keeps the updates off the indexes.
ALTER TABLE points_account SET (fillfactor = 70);
ALTER TABLE points_lotbalance SET (fillfactor = 80);
