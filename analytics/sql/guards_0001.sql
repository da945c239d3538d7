-- What the database itself refuses in analytics. The function core_refuse_change is core's.

CREATE TRIGGER analytics_restatement_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON analytics_restatement
    FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();
