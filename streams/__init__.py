"""The edges: Faust, Kafka and ClickHouse bound to the agents."""
