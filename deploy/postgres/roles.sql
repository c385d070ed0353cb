-- Roles of least privilege for a Tollhouse ledger on PostgreSQL. Made by `python scripts/roles.py`; do not edit.
--
-- Run it as a superuser in the ledger's database: once after the first `tollhouse migrate`, and after each later one.
--
--   psql "$ADMIN_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql
--   psql "$ADMIN_URL" -c "CREATE ROLE tollhouse_worker_1 LOGIN PASSWORD '...' IN ROLE tollhouse_worker"
--
-- The roles themselves cannot sign in; give each service a user of its own in one of them.
BEGIN;

DO $$ BEGIN CREATE ROLE tollhouse_migration NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE tollhouse_worker NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE tollhouse_api NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE tollhouse_finance NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM tollhouse_worker, tollhouse_api, tollhouse_finance;
GRANT USAGE ON SCHEMA public TO tollhouse_worker, tollhouse_api, tollhouse_finance;
GRANT USAGE, CREATE ON SCHEMA public TO tollhouse_migration;
-- The services keep keys to look for in tables of their own session.
DO $$ BEGIN
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO tollhouse_worker, tollhouse_api, tollhouse_finance, tollhouse_migration', current_database());
END $$;

ALTER TABLE "alerts" OWNER TO tollhouse_migration;
ALTER TABLE "audit_log" OWNER TO tollhouse_migration;
ALTER TABLE "billing_documents" OWNER TO tollhouse_migration;
ALTER TABLE "catalogs" OWNER TO tollhouse_migration;
ALTER TABLE "compacted" OWNER TO tollhouse_migration;
ALTER TABLE "credit_notes" OWNER TO tollhouse_migration;
ALTER TABLE "deliveries" OWNER TO tollhouse_migration;
ALTER TABLE "detector_states" OWNER TO tollhouse_migration;
ALTER TABLE "dropped_months" OWNER TO tollhouse_migration;
ALTER TABLE "dropped_places" OWNER TO tollhouse_migration;
ALTER TABLE "events" OWNER TO tollhouse_migration;
ALTER TABLE "intake" OWNER TO tollhouse_migration;
ALTER TABLE "invoices" OWNER TO tollhouse_migration;
ALTER TABLE "key_fingerprints" OWNER TO tollhouse_migration;
ALTER TABLE "key_states" OWNER TO tollhouse_migration;
ALTER TABLE "late_quarters" OWNER TO tollhouse_migration;
ALTER TABLE "leak_scores" OWNER TO tollhouse_migration;
ALTER TABLE "outbox" OWNER TO tollhouse_migration;
ALTER TABLE "quota_windows" OWNER TO tollhouse_migration;
ALTER TABLE "rejected" OWNER TO tollhouse_migration;
ALTER TABLE "reservations" OWNER TO tollhouse_migration;
ALTER TABLE "residuals" OWNER TO tollhouse_migration;
ALTER TABLE "responses" OWNER TO tollhouse_migration;
ALTER TABLE "revoked_tokens" OWNER TO tollhouse_migration;
ALTER TABLE "rollup_days" OWNER TO tollhouse_migration;
ALTER TABLE "rollup_months" OWNER TO tollhouse_migration;
ALTER TABLE "rollups" OWNER TO tollhouse_migration;
ALTER TABLE "sessions" OWNER TO tollhouse_migration;
ALTER TABLE "sign_ins" OWNER TO tollhouse_migration;
ALTER TABLE "signing_keys" OWNER TO tollhouse_migration;
ALTER TABLE "topic_generations" OWNER TO tollhouse_migration;
ALTER TABLE "alembic_version" OWNER TO tollhouse_migration;

REVOKE ALL ON "alerts", "audit_log", "billing_documents", "catalogs", "compacted", "credit_notes", "deliveries", "detector_states", "dropped_months", "dropped_places", "events", "intake", "invoices", "key_fingerprints", "key_states", "late_quarters", "leak_scores", "outbox", "quota_windows", "rejected", "reservations", "residuals", "responses", "revoked_tokens", "rollup_days", "rollup_months", "rollups", "sessions", "sign_ins", "signing_keys", "topic_generations", "alembic_version" FROM PUBLIC, tollhouse_worker, tollhouse_api, tollhouse_finance;
GRANT SELECT ON "alerts", "audit_log", "billing_documents", "catalogs", "compacted", "credit_notes", "deliveries", "detector_states", "dropped_months", "dropped_places", "events", "intake", "invoices", "key_fingerprints", "key_states", "late_quarters", "leak_scores", "outbox", "quota_windows", "rejected", "reservations", "residuals", "responses", "revoked_tokens", "rollup_days", "rollup_months", "rollups", "sessions", "sign_ins", "signing_keys", "topic_generations", "alembic_version" TO tollhouse_worker, tollhouse_api, tollhouse_finance;

GRANT INSERT, UPDATE, DELETE ON "events" TO tollhouse_worker;
GRANT INSERT, UPDATE ON "rollups" TO tollhouse_worker;
GRANT INSERT, DELETE ON "rollup_days" TO tollhouse_worker;
GRANT INSERT, DELETE ON "rollup_months" TO tollhouse_worker;
GRANT INSERT, UPDATE ON "compacted" TO tollhouse_worker;
GRANT INSERT, UPDATE, DELETE ON "late_quarters" TO tollhouse_worker;
GRANT INSERT, UPDATE ON "quota_windows" TO tollhouse_worker;
GRANT UPDATE ON "reservations" TO tollhouse_worker;
GRANT INSERT ON "rejected" TO tollhouse_worker;
GRANT USAGE ON SEQUENCE rejected_n_seq TO tollhouse_worker;
GRANT INSERT, UPDATE ON "intake" TO tollhouse_worker;
GRANT INSERT ON "topic_generations" TO tollhouse_worker;
GRANT INSERT, UPDATE, DELETE ON "outbox" TO tollhouse_worker;
GRANT USAGE ON SEQUENCE outbox_n_seq TO tollhouse_worker;
GRANT INSERT, UPDATE ON "key_states" TO tollhouse_worker;
GRANT INSERT, UPDATE ON "alerts" TO tollhouse_worker;
GRANT INSERT, UPDATE ON "deliveries" TO tollhouse_worker;
GRANT INSERT, UPDATE ON "responses" TO tollhouse_worker;
GRANT INSERT, UPDATE ON "detector_states" TO tollhouse_worker;
GRANT INSERT, UPDATE, DELETE ON "leak_scores" TO tollhouse_worker;
GRANT INSERT, UPDATE ON "residuals" TO tollhouse_worker;
GRANT INSERT, UPDATE ON "billing_documents" TO tollhouse_worker;
GRANT INSERT ON "audit_log" TO tollhouse_worker;
GRANT USAGE ON SEQUENCE audit_log_n_seq TO tollhouse_worker;

GRANT INSERT, UPDATE ON "events" TO tollhouse_api;
GRANT INSERT, UPDATE ON "rollups" TO tollhouse_api;
GRANT INSERT, UPDATE ON "late_quarters" TO tollhouse_api;
GRANT INSERT, UPDATE ON "intake" TO tollhouse_api;
GRANT INSERT, UPDATE ON "quota_windows" TO tollhouse_api;
GRANT INSERT, UPDATE ON "reservations" TO tollhouse_api;
GRANT INSERT, UPDATE ON "rejected" TO tollhouse_api;
GRANT USAGE ON SEQUENCE rejected_n_seq TO tollhouse_api;
GRANT INSERT ON "outbox" TO tollhouse_api;
GRANT USAGE ON SEQUENCE outbox_n_seq TO tollhouse_api;
GRANT INSERT, UPDATE ON "key_states" TO tollhouse_api;
GRANT INSERT ON "key_fingerprints" TO tollhouse_api;
GRANT INSERT, UPDATE ON "alerts" TO tollhouse_api;
GRANT INSERT, UPDATE ON "deliveries" TO tollhouse_api;
GRANT UPDATE ON "responses" TO tollhouse_api;
GRANT INSERT ON "revoked_tokens" TO tollhouse_api;
GRANT INSERT, UPDATE, DELETE ON "sessions" TO tollhouse_api;
GRANT INSERT, DELETE ON "sign_ins" TO tollhouse_api;
GRANT INSERT, UPDATE ON "invoices" TO tollhouse_api;
GRANT INSERT ON "credit_notes" TO tollhouse_api;
GRANT INSERT, UPDATE ON "billing_documents" TO tollhouse_api;
GRANT INSERT ON "audit_log" TO tollhouse_api;
GRANT USAGE ON SEQUENCE audit_log_n_seq TO tollhouse_api;

GRANT INSERT, UPDATE ON "invoices" TO tollhouse_finance;
GRANT INSERT ON "credit_notes" TO tollhouse_finance;
GRANT INSERT, UPDATE ON "billing_documents" TO tollhouse_finance;
GRANT INSERT, UPDATE ON "alerts" TO tollhouse_finance;
GRANT INSERT ON "deliveries" TO tollhouse_finance;
GRANT INSERT ON "outbox" TO tollhouse_finance;
GRANT USAGE ON SEQUENCE outbox_n_seq TO tollhouse_finance;
GRANT INSERT, UPDATE ON "residuals" TO tollhouse_finance;
GRANT INSERT ON "audit_log" TO tollhouse_finance;
GRANT USAGE ON SEQUENCE audit_log_n_seq TO tollhouse_finance;

ALTER TABLE "billing_documents" ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS everybody_reads ON "billing_documents";
CREATE POLICY everybody_reads ON "billing_documents" FOR SELECT TO tollhouse_worker, tollhouse_api, tollhouse_finance USING (true);
DROP POLICY IF EXISTS billing_writes ON "billing_documents";
CREATE POLICY billing_writes ON "billing_documents" FOR INSERT TO tollhouse_api, tollhouse_finance WITH CHECK (true);
DROP POLICY IF EXISTS billing_changes ON "billing_documents";
CREATE POLICY billing_changes ON "billing_documents" FOR UPDATE TO tollhouse_api, tollhouse_finance USING (true);
DROP POLICY IF EXISTS worker_writes ON "billing_documents";
CREATE POLICY worker_writes ON "billing_documents" FOR INSERT TO tollhouse_worker WITH CHECK (kind IN ('cursor', 'audit'));
DROP POLICY IF EXISTS worker_changes ON "billing_documents";
CREATE POLICY worker_changes ON "billing_documents" FOR UPDATE TO tollhouse_worker USING (kind IN ('cursor', 'audit'));
COMMIT;
