CREATE TRIGGER points_accrualcorrection_append_only BEFORE UPDATE OR DELETE ON points_accrualcorrection
    FOR EACH ROW EXECUTE FUNCTION core_refuse_change();
CREATE TRIGGER points_accrualcorrection_no_truncate BEFORE TRUNCATE ON points_accrualcorrection
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();
