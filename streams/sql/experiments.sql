-- experiments: every record about an experiment; of a definition all that ever stood under its key, else the newest.
CREATE TABLE IF NOT EXISTS {database}.scaling_experiments
(
    experiment_id String,
    version UInt32 COMMENT '0 is a draft',
    kind LowCardinality(String) COMMENT 'draft, definition, status, result, notes or finding',
    slot UInt64 COMMENT 'the offset of a definition, else 0: definitions are never replaced',
    offset UInt64 COMMENT 'on scaling.experiments',
    published_at DateTime64(3, 'UTC'),
    record String COMMENT 'the whole record, JSON; empty where it was deleted',
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(offset)
ORDER BY (experiment_id, version, kind, slot);

-- One row for each version of an experiment; the first record of a definition is the one that was sealed.
CREATE OR REPLACE VIEW {database}.experiments AS
SELECT
    experiment_id,
    version,
    JSONExtractString(definition, 'name') AS name,
    JSONExtractString(definition, 'hypothesis') AS hypothesis,
    JSONExtractString(definition, 'dimension_tested') AS dimension_tested,
    JSONExtractRaw(definition, 'values_tested') AS values_tested,
    JSONExtractRaw(definition, 'control_value') AS control_value,
    JSONExtractRaw(definition, 'context_filter') AS context_filter,
    JSONExtractString(definition, 'outcome') AS outcome,
    JSONExtractString(definition, 'estimand') AS estimand,
    if(version = 0, 'draft', JSONExtractString(status_record, 'status')) AS status,
    JSONExtractString(status_record, 'reason') AS status_reason,
    JSONExtractString(status_record, 'next_step') AS next_step,
    JSONExtractString(sealed, 'sealed_at') AS sealed_at,
    JSONExtractString(sealed, 'sha256') AS sha256,
    JSONExtractString(results, 'verdict') AS verdict,
    JSONExtractString(results, 'label') AS label,
    JSONExtractString(results, 'sentence') AS sentence,
    JSONExtractUInt(results, 'runs') AS runs,
    JSONExtractFloat(results, 'dollars') AS dollars,
    definition,
    results
FROM
(
    SELECT
        experiment_id,
        version,
        argMinIf(record, offset, kind IN ('definition', 'draft') AND record != '') AS sealed,
        JSONExtractRaw(sealed, 'definition') AS definition,
        argMaxIf(record, offset, kind = 'status') AS status_record,
        argMaxIf(record, offset, kind = 'result') AS results
    FROM {database}.scaling_experiments FINAL
    GROUP BY experiment_id, version
    HAVING sealed != ''
);
