-- overrides: the standing orders of people, those that were lifted included.
CREATE TABLE IF NOT EXISTS {database}.scaling_overrides
(
    override_id String,
    context String,
    by String,
    reason String,
    pins String COMMENT 'the parts that are pinned, a JSON object',
    caps String COMMENT 'the parts that are capped, a JSON object',
    given_at DateTime64(3, 'UTC'),
    begins Nullable(DateTime64(3, 'UTC')),
    ends Nullable(DateTime64(3, 'UTC')),
    lifted_at Nullable(DateTime64(3, 'UTC')),
    lifted_by Nullable(String),
    partition UInt16,
    offset UInt64 COMMENT 'on scaling.overrides',
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(offset)
ORDER BY override_id;

CREATE OR REPLACE VIEW {database}.overrides AS
SELECT * FROM {database}.scaling_overrides FINAL;
