-- The least that can be called a posting: a locked account, a transaction with its key, an entry, a balance.
CREATE TABLE bench_account (id bigint PRIMARY KEY, balance bigint NOT NULL) WITH (fillfactor = 70);
CREATE TABLE bench_transaction (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id bigint NOT NULL, kind smallint NOT NULL,
    key_digest bytea NOT NULL, effective_at timestamptz NOT NULL, recorded_at timestamptz NOT NULL,
    UNIQUE (account_id, key_digest));
CREATE TABLE bench_entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, transaction_id bigint NOT NULL, account_id bigint NOT NULL,
    points bigint NOT NULL, balance_after bigint NOT NULL);

CREATE FUNCTION bench_post(
    p_account_id bigint, p_key bytea, p_points bigint, p_effective_at timestamptz, p_recorded_at timestamptz
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    held bigint;
    made bigint;
BEGIN
    SELECT balance INTO held FROM bench_account WHERE id = p_account_id FOR NO KEY UPDATE;
    INSERT INTO bench_transaction (account_id, kind, key_digest, effective_at, recorded_at)
    VALUES (p_account_id, 1, p_key, p_effective_at, p_recorded_at) RETURNING id INTO made;
    INSERT INTO bench_entry (transaction_id, account_id, points, balance_after)
    VALUES (made, p_account_id, p_points, held + p_points);
    UPDATE bench_account SET balance = held + p_points WHERE id = p_account_id;
    RETURN made;
END $$;
