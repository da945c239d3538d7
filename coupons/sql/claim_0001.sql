-- A claim: one call takes everything that a member must have for it, or nothing.
--
-- Errors: CP001 all claims are given out, CP002 the member has had theirs, CP003 the code is not to be had,
-- CP004 the version is not in force, CP005 the member is not an active one of this program,
-- CP006 the new code's text is taken: draw another one.

-- Take one from the definition's counter and return the shard; null where there is no limit. Starts at a shard of the
-- member's own, so that a crowd spreads, and asks every other one before it refuses. A conditional UPDATE waits for
-- whoever is taking the last one, and looks again.
CREATE FUNCTION coupons_take(p_definition bigint, p_member bigint) RETURNS smallint LANGUAGE plpgsql AS $$
DECLARE
    shards int;
    start int;
    taken smallint;
BEGIN
    SELECT count(*) INTO shards FROM coupons_countershard WHERE definition_id = p_definition;
    IF shards = 0 THEN
        RETURN NULL;
    END IF;
    start := mod(hashint8(p_member)::bigint & 2147483647, shards);
    FOR step IN 0 .. shards - 1 LOOP
        UPDATE coupons_countershard SET used = used + 1
        WHERE definition_id = p_definition AND shard = mod(start + step, shards) AND used < "limit"
        RETURNING shard INTO taken;
        IF FOUND THEN
            RETURN taken;
        END IF;
    END LOOP;
    -- A limit that was lifted while this call waited is none.
    IF NOT EXISTS (SELECT FROM coupons_countershard WHERE definition_id = p_definition) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'all claims of definition % are given out', p_definition USING ERRCODE = 'CP001';
END $$;

-- Claim a coupon for a member, or return the claim that the source has already made.
--   p_code      the code that was typed, or null
--   p_new_code  the text of a code to be made for this claim alone, or null
--   p_per_member, p_expires_at  null: no limit, no end
CREATE FUNCTION coupons_claim_coupon(
    p_program bigint, p_member bigint, p_definition bigint, p_version bigint, p_code bigint, p_new_code text,
    p_public_id uuid, p_source text, p_is_automatic boolean, p_per_member int,
    p_valid_from timestamptz, p_expires_at timestamptz, p_at timestamptz
) RETURNS TABLE (claim coupons_claim, is_new boolean) LANGUAGE plpgsql AS $$
DECLARE
    member_status text;
    code_id bigint := p_code;
BEGIN
    -- Before all else: of two claims of one member the second sees the first.
    SELECT m.status INTO member_status FROM membership_member m
    WHERE m.id = p_member AND m.program_id = p_program FOR NO KEY UPDATE;
    IF p_source <> '' THEN
        SELECT c.* INTO claim FROM coupons_claim c
        WHERE c.member_id = p_member AND c.definition_id = p_definition AND c.source = p_source;
        IF FOUND THEN
            is_new := false;
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    IF member_status IS DISTINCT FROM 'active' THEN
        RAISE EXCEPTION 'member % is not active', p_member USING ERRCODE = 'CP005';
    END IF;
    PERFORM FROM coupons_coupondefinitionversion v
    WHERE v.id = p_version AND v.owner_id = p_definition AND v.status <> 'draft'
        AND coalesce(v.effective_at, '-infinity') <= p_at AND coalesce(v.ended_at, 'infinity') > p_at
        AND coalesce(p_expires_at, 'infinity') > p_at;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'version % is not in force', p_version USING ERRCODE = 'CP004';
    END IF;

    claim.public_id := p_public_id;
    claim.member_id := p_member;
    claim.definition_id := p_definition;
    claim.version_id := p_version;
    claim.source := p_source;
    claim.is_automatic := p_is_automatic;
    claim.state := 'open';
    claim.claimed_at := p_at;
    claim.valid_from := p_valid_from;
    claim.expires_at := p_expires_at;
    -- The lowest number that is free. The unique key stands behind it.
    SELECT min(free.number) INTO claim.number
    FROM (
        SELECT 1 AS number
        UNION ALL
        SELECT c.number + 1 FROM coupons_claim c
        WHERE c.member_id = p_member AND c.definition_id = p_definition AND c.state <> 'revoked'
    ) free
    WHERE NOT EXISTS (
        SELECT FROM coupons_claim c
        WHERE c.member_id = p_member AND c.definition_id = p_definition AND c.state <> 'revoked'
            AND c.number = free.number
    );
    -- The limit may have been higher: then some of the member's numbers are beyond it.
    IF p_per_member <= (
        SELECT count(*) FROM coupons_claim c
        WHERE c.member_id = p_member AND c.definition_id = p_definition AND c.state <> 'revoked'
    ) THEN
        RAISE EXCEPTION 'member % has had theirs', p_member USING ERRCODE = 'CP002';
    END IF;

    IF p_code IS NOT NULL THEN
        UPDATE coupons_couponcode k SET claimed_by = p_member
        WHERE k.id = p_code AND k.program_id = p_program AND k.definition_id = p_definition
            AND k.claimed_by IS NULL AND k.disabled_at IS NULL AND NOT k.is_shared;
        IF NOT FOUND THEN
            -- A shared one is read, not written: a crowd does not queue for it.
            PERFORM FROM coupons_couponcode k
            WHERE k.id = p_code AND k.program_id = p_program AND k.definition_id = p_definition
                AND k.is_shared AND k.disabled_at IS NULL;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'code % is not to be had', p_code USING ERRCODE = 'CP003';
            END IF;
        END IF;
    ELSIF p_new_code IS NOT NULL THEN
        INSERT INTO coupons_couponcode (program_id, text, definition_id, is_shared, claimed_by, made_at)
        VALUES (p_program, p_new_code, p_definition, false, p_member, p_at)
        ON CONFLICT DO NOTHING RETURNING id INTO code_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the text of the new code is taken' USING ERRCODE = 'CP006';
        END IF;
    END IF;
    claim.code_id := code_id;

    -- The counter that everyone shares comes last: it is held for the shortest time.
    claim.shard := coupons_take(p_definition, p_member);
    claim.id := nextval(pg_get_serial_sequence('coupons_claim', 'id'));
    INSERT INTO coupons_claim SELECT claim.*;
    IF NOT p_is_automatic THEN
        INSERT INTO core_outboxevent (program_id, topic, payload, recorded_at)
        VALUES (p_program, 'coupons.claimed', jsonb_build_object('claims', jsonb_build_array(claim.id)), p_at);
    END IF;
    is_new := true;
    RETURN NEXT;
END $$;
