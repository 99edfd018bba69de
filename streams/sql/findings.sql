-- findings: what each experiment found, in the order of the tests.
CREATE TABLE IF NOT EXISTS {database}.scaling_findings
(
    experiment_id String,
    version UInt32,
    offset UInt64 COMMENT 'on scaling.findings: the order of the tests',
    concluded_at DateTime64(3, 'UTC'),
    dimension LowCardinality(String),
    outcome LowCardinality(String),
    verdict LowCardinality(String),
    label LowCardinality(String),
    sentence String,
    runs Int64,
    dollars Float64,
    p Float64,
    minimum_effect Float64,
    knee Nullable(Float64),
    recommended_value Nullable(Float64),
    record String COMMENT 'the whole finding, JSON',
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (experiment_id, version, offset);

CREATE OR REPLACE VIEW {database}.findings AS
SELECT * FROM {database}.scaling_findings FINAL ORDER BY offset;
