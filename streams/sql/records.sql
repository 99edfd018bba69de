-- records: one narrow row for each accepted record of scaling.runs, duplicates and replaced revisions included.
-- The runs that a law has seen are those with a record below its lineage.
CREATE TABLE IF NOT EXISTS {database}.scaling_records
(
    partition UInt16,
    offset UInt64,
    agent_run_id String,
    revision UInt16,
    content_hash UInt64 COMMENT 'xxh64 of the payload'
)
ENGINE = ReplacingMergeTree
ORDER BY (partition, offset);

CREATE OR REPLACE VIEW {database}.records AS
SELECT * FROM {database}.scaling_records FINAL;
