-- laws: every version of every scaling law that was published.
CREATE TABLE IF NOT EXISTS {database}.scaling_laws
(
    law_id String,
    epoch Int64,
    version Int64,
    tier LowCardinality(String),
    context String,
    dimension LowCardinality(String) COMMENT 'joint: a law of all dimensions together',
    outcome LowCardinality(String),
    fitted_at DateTime64(3, 'UTC'),
    n Int64 COMMENT 'runs',
    status LowCardinality(String),
    evidence LowCardinality(String),
    basis LowCardinality(Nullable(String)),
    exponent Nullable(Float64) COMMENT 'of the reference power fit, as are the next five columns',
    exponent_se Nullable(Float64),
    exponent_lo Nullable(Float64),
    exponent_hi Nullable(Float64),
    r_squared Nullable(Float64),
    interpretation LowCardinality(Nullable(String)),
    family LowCardinality(Nullable(String)) COMMENT 'of the published curve',
    knee Nullable(Float64) COMMENT 'of the law, with its interval',
    knee_lo Nullable(Float64),
    knee_hi Nullable(Float64),
    reference_knee Nullable(Float64) COMMENT 'by the reference rule',
    recommended_value Nullable(Float64),
    settings_hash LowCardinality(String),
    record String COMMENT 'the whole law, JSON',
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (law_id, epoch, version);

CREATE OR REPLACE VIEW {database}.law_history AS
SELECT * FROM {database}.scaling_laws FINAL;

-- The newest version of each law.
CREATE OR REPLACE VIEW {database}.laws AS
SELECT * FROM {database}.scaling_laws FINAL
ORDER BY law_id, epoch DESC, version DESC
LIMIT 1 BY law_id;
