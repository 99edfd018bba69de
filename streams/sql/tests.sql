-- tests: A/B tests of the allocator against a fixed setting.
CREATE TABLE IF NOT EXISTS {database}.scaling_tests
(
    test_id String,
    context String COMMENT 'which tasks take part',
    fixed String COMMENT 'the setting of the fixed arm, JSON',
    share Float64 COMMENT 'of tasks in the dynamic arm',
    by String,
    reason String,
    started_at DateTime64(3, 'UTC'),
    ended_at Nullable(DateTime64(3, 'UTC')),
    ended_by Nullable(String) COMMENT 'a person, or a rule',
    gain Float64 COMMENT 'the relative gain in outcome per cost that it is planned to find',
    margin Float64 COMMENT 'the loss of success that still counts as non-inferior',
    rate Float64 COMMENT 'the expected success rate, as are the next three columns expectations',
    cost_cv Float64,
    difference Float64,
    explained Float64,
    verdict LowCardinality(String),
    sentence String,
    record String COMMENT 'the whole test, JSON',
    partition UInt16,
    offset UInt64 COMMENT 'on scaling.tests',
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(offset)
ORDER BY test_id;

CREATE OR REPLACE VIEW {database}.ab_tests AS
SELECT * FROM {database}.scaling_tests FINAL;
